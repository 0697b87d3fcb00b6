//! The supervisor's control: a unix socket in its directory, one JSON line in,
//! one out, by which `cardea dev link` cuts and heals links.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};

use super::{
    link::{LinkState, Links},
    plan::REGIONS,
};

/// Where the socket stands.
pub fn socket(root: &Path) -> PathBuf {
    root.join("control.sock")
}

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Ask {
    /// Show the links.
    List,
    /// Cut or heal a link.
    Set {
        /// The region that sends.
        from: String,
        /// The region that receives.
        to: String,
        /// Whether nothing passes.
        cut: bool,
        /// Leave the other direction as it is.
        one_way: bool,
    },
}

/// A link as shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownLink {
    /// The region that sends.
    pub from: String,
    /// The region that receives.
    pub to: String,
    /// What it does.
    #[serde(flatten)]
    pub state: LinkState,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The links as they are now.
    Links(Vec<ShownLink>),
    /// Why it was not done.
    Refused(String),
}

/// Answers on `listener` for ever.
pub async fn serve(listener: UnixListener, links: Links) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        // One asker at a time; one that breaks off is let go.
        tokio::time::timeout(std::time::Duration::from_secs(2), answer_one(stream, &links))
            .await
            .ok();
    }
}

async fn answer_one(mut stream: UnixStream, links: &Links) -> std::io::Result<()> {
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(ask) => answer(&ask, links),
        Err(error) => Answer::Refused(error.to_string()),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    stream.write_all(text.as_bytes()).await
}

fn answer(ask: &Ask, links: &Links) -> Answer {
    if let Ask::Set { from, to, cut, one_way } = ask {
        let of = |name: &str| REGIONS.iter().position(|region| *region == name);
        let (Some(from), Some(to)) = (of(from), of(to)) else {
            return Answer::Refused(format!("the regions are {}", REGIONS.join(", ")));
        };
        let there = links.set_cut(from, to, *cut);
        if !there || !*one_way && !links.set_cut(to, from, *cut) {
            return Answer::Refused("a link leads from one region to another".to_owned());
        }
    }
    let shown = links.states().into_iter().map(|((from, to), state)| ShownLink {
        from: REGIONS[from].to_owned(),
        to: REGIONS[to].to_owned(),
        state,
    });
    Answer::Links(shown.collect())
}

/// Asks the supervisor of `root`.
pub async fn ask(root: &Path, ask: &Ask) -> anyhow::Result<Vec<ShownLink>> {
    let mut stream = UnixStream::connect(socket(root)).await.map_err(|error| {
        anyhow::anyhow!("no cluster with simulated links runs from {} ({error}); start it with `cardea dev --delay 0ms`", root.display())
    })?;
    let mut text = serde_json::to_string(ask)?;
    text.push('\n');
    stream.write_all(text.as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await?;
    match serde_json::from_str(&line)? {
        Answer::Links(links) => Ok(links),
        Answer::Refused(why) => Err(anyhow::anyhow!(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn links_are_cut_and_healed_over_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let links = Links::new(|_, _| std::time::Duration::from_millis(4));
        let listener = UnixListener::bind(socket(dir.path())).unwrap();
        tokio::spawn(serve(listener, links.clone()));
        let set = |to: &str, cut, one_way| Ask::Set {
            from: "us-east".to_owned(),
            to: to.to_owned(),
            cut,
            one_way,
        };
        let cut = |shown: Vec<ShownLink>| shown.into_iter().filter(|link| link.state.cut).count();
        assert_eq!(ask(dir.path(), &Ask::List).await.unwrap().len(), 6);
        assert_eq!(cut(ask(dir.path(), &set("ap-south", true, false)).await.unwrap()), 2);
        assert_eq!(cut(ask(dir.path(), &set("ap-south", false, true)).await.unwrap()), 1);
        assert!(ask(dir.path(), &set("mars", true, false)).await.is_err());
        assert!(ask(dir.path(), &set("us-east", true, false)).await.is_err());
    }
}
