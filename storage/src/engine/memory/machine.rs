//! The simulated machine behind every handle of a memory disk: its tree of
//! files, its engines, its chance, and the step at which it is to fail.

use std::{
    collections::BTreeMap,
    ops::Bound,
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    chance::Chance,
    image,
    rows::{Ledger, Rows},
};
use crate::fault::Fault;

/// The file under which an engine's rows are read and received.
pub(super) const IMAGE: &str = "data";

#[derive(Debug)]
pub(super) enum Node {
    Directory,
    File {
        content: Vec<u8>,
        /// Whether a crash leaves it as it is.
        durable: bool,
    },
    /// A directory in which an engine keeps its rows.
    Engine(EngineId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EngineId(u64);

#[derive(Debug, Default)]
pub(super) struct Opened {
    pub(super) ledger: Ledger,
    pub(super) open: bool,
    /// Its directory is gone; the rows stay for who has it open.
    unlinked: bool,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) nodes: BTreeMap<PathBuf, Node>,
    engines: BTreeMap<EngineId, Opened>,
    engines_made: u64,
    pub(super) chance: Chance,
    /// Counts crashes; handles from before one are dead.
    pub(super) incarnation: u64,
    pub(super) steps: u64,
    pub(super) fails_from: Option<u64>,
    pub(super) free_bytes: u64,
}

impl Machine {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            nodes: BTreeMap::new(),
            engines: BTreeMap::new(),
            engines_made: 0,
            chance: Chance::new(seed),
            incarnation: 0,
            steps: 0,
            fails_from: None,
            free_bytes: 1 << 40,
        }
    }

    /// Called before each change of what is on the disk: the points at which a
    /// crash is worth a test.
    pub(super) fn step(&mut self, what: &str, path: &Path) -> Result<(), Fault> {
        self.steps += 1;
        match self.fails_from {
            Some(first) if self.steps >= first => {
                Err(Fault::new(format!("{what} {}: the simulated disk fails", path.display())))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn crash(&mut self, lose_all: bool) {
        self.incarnation += 1;
        self.fails_from = None;
        self.engines.retain(|_, engine| !engine.unlinked);
        for engine in self.engines.values_mut() {
            engine.open = false;
            engine.ledger.crash(lose_all, &mut self.chance);
        }
        let chance = &mut self.chance;
        self.nodes.retain(|_, node| match node {
            Node::File { content, durable } if !*durable => {
                if lose_all || chance.one_in(2) {
                    return false;
                }
                content.truncate(chance.up_to(content.len()));
                *durable = true;
                true
            }
            _ => true,
        });
    }

    pub(super) fn is_directory(&self, path: &Path) -> bool {
        path.parent().is_none()
            || matches!(self.nodes.get(path), Some(Node::Directory | Node::Engine(_)))
    }

    /// Refuses a name whose directory is absent, as a real disk does.
    pub(super) fn check_parent(&self, path: &Path) -> Result<(), Fault> {
        match path.parent() {
            Some(parent) if self.is_directory(parent) || parent.as_os_str().is_empty() => Ok(()),
            _ => Err(Fault::new(format!("no directory for {}", path.display()))),
        }
    }

    pub(super) fn create_directory(&mut self, directory: &Path) -> Result<(), Fault> {
        let missing: Vec<PathBuf> = directory
            .ancestors()
            .filter(|path| !path.as_os_str().is_empty() && !self.is_directory(path))
            .map(Path::to_path_buf)
            .collect();
        for path in missing.into_iter().rev() {
            if self.nodes.contains_key(&path) {
                return Err(Fault::new(format!("a file is in the way: {}", path.display())));
            }
            self.step("create directory", &path)?;
            self.nodes.insert(path, Node::Directory);
        }
        Ok(())
    }

    /// Paths of `top` and of all below it, parents first.
    pub(super) fn tree(&self, top: &Path) -> Vec<PathBuf> {
        self.nodes
            .range::<Path, _>((Bound::Included(top), Bound::Unbounded))
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(top))
            .cloned()
            .collect()
    }

    /// Removes files before the directories that hold them, one step each: a
    /// crash may leave half a directory.
    pub(super) fn remove(&mut self, path: &Path) -> Result<(), Fault> {
        for path in self.tree(path).into_iter().rev() {
            self.step("remove", &path)?;
            if let Some(Node::Engine(id)) = self.nodes.remove(&path) {
                self.unlink(id);
            }
        }
        Ok(())
    }

    fn unlink(&mut self, id: EngineId) {
        if let Some(engine) = self.engines.get_mut(&id) {
            engine.unlinked = true;
            if !engine.open {
                self.engines.remove(&id);
            }
        }
    }

    /// Moves `from` and all below it. The caller counts the step.
    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        for path in self.tree(from) {
            let moved = match path.strip_prefix(from) {
                Ok(rest) if rest.as_os_str().is_empty() => to.to_path_buf(),
                Ok(rest) => to.join(rest),
                Err(_) => continue,
            };
            if let Some(node) = self.nodes.remove(&path) {
                self.nodes.insert(moved, node);
            }
        }
    }

    /// Opens the engine in `at`: the one that is there, the rows of a received
    /// image, or an empty one.
    pub(super) fn open_engine(&mut self, at: &Path) -> Result<EngineId, Fault> {
        self.create_directory(at)?;
        self.step("open an engine in", at)?;
        let id = match self.nodes.get(at) {
            Some(Node::Engine(id)) => *id,
            _ => {
                let received = at.join(IMAGE);
                let rows = match self.nodes.get(&received) {
                    Some(Node::File { content, .. }) => {
                        image::decode(&Bytes::copy_from_slice(content))?
                    }
                    _ => Rows::new(),
                };
                self.nodes.remove(&received);
                self.place_engine(at, rows)
            }
        };
        let engine = self.engines.entry(id).or_default();
        if engine.open {
            return Err(Fault::new(format!(
                "the data directory {} is in use by another process, or is already open here",
                at.display()
            )));
        }
        engine.open = true;
        Ok(id)
    }

    /// Puts an engine that is not open into the directory `at`.
    pub(super) fn place_engine(&mut self, at: &Path, rows: Rows) -> EngineId {
        self.engines_made += 1;
        let id = EngineId(self.engines_made);
        self.engines.insert(id, Opened { ledger: Ledger::holding(rows), ..Opened::default() });
        self.nodes.insert(at.to_path_buf(), Node::Engine(id));
        id
    }

    pub(super) fn ledger(&mut self, id: EngineId) -> &mut Ledger {
        &mut self.engines.entry(id).or_default().ledger
    }

    pub(super) fn parts(&mut self, id: EngineId) -> (&mut Ledger, &mut Chance) {
        (&mut self.engines.entry(id).or_default().ledger, &mut self.chance)
    }

    pub(super) fn close_engine(&mut self, id: EngineId) {
        if let Some(engine) = self.engines.get_mut(&id) {
            engine.open = false;
            if engine.unlinked {
                self.engines.remove(&id);
            }
        }
    }

    /// What a reader of the file at `path` gets.
    pub(super) fn read(&self, path: &Path) -> Option<Bytes> {
        if let Some(Node::File { content, .. }) = self.nodes.get(path) {
            return Some(Bytes::copy_from_slice(content));
        }
        let (directory, name) = (path.parent()?, path.file_name()?);
        match self.nodes.get(directory) {
            Some(Node::Engine(id)) if name == IMAGE => {
                self.engines.get(id).map(|engine| image::encode(engine.ledger.durable()))
            }
            _ => None,
        }
    }
}
