//! The models: a language, tuples by number, and questions whose answers are known.
//!
//! Two of them make up the bulk. In the Drive-like one documents lie in a tree of
//! folders, eight to a folder, and groups, some within others, may view folders. In the
//! GitHub-like one each role on a repository includes the roles above it and what the
//! owning organization grants, and teams lie within teams. Beside them stand chains of
//! three and ten groups, one group of ten thousand, and folders fifty deep, in as many
//! copies as keep questions from meeting the same rows again and again.

use cardea_permission::{Subject, SubjectSet, Tuple};

/// Members of the wide group.
pub const WIDE: u64 = 10_000;
/// How deep the deep folders are.
pub const DEEP: u64 = 50;
/// Groups within each group of the nest but the innermost, and how often they are so.
const NEST: u64 = 4;
const NEST_DEEP: u32 = 5;
/// The first of the innermost, and all groups of the nest.
const NEST_INNERMOST: u64 = (NEST.pow(NEST_DEEP) - 1) / (NEST - 1);
const NEST_GROUPS: u64 = (NEST.pow(NEST_DEEP + 1) - 1) / (NEST - 1);

/// The language of all models.
pub const LANGUAGE: &str = r#"
class User implements Namespace {}
class Group implements Namespace {
  related: { members: (User | SubjectSet<Group, "members">)[] }
}
class Folder implements Namespace {
  related: { parents: Folder[]; viewers: (User | SubjectSet<Group, "members">)[] }
  permits = {
    view: (ctx: Context): boolean =>
      this.related.viewers.includes(ctx.subject) ||
      this.related.parents.traverse((p) => p.permits.view(ctx)),
  }
}
class Doc implements Namespace {
  related: { parents: Folder[]; owners: User[]; viewers: (User | SubjectSet<Group, "members">)[] }
  permits = {
    view: (ctx: Context): boolean =>
      this.related.owners.includes(ctx.subject) ||
      this.related.viewers.includes(ctx.subject) ||
      this.related.parents.traverse((p) => p.permits.view(ctx)),
  }
}
class Team implements Namespace {
  related: { members: (User | SubjectSet<Team, "members">)[] }
}
class Org implements Namespace {
  related: { members: User[]; repo_admins: User[]; repo_readers: (User | SubjectSet<Org, "members">)[] }
}
class Repo implements Namespace {
  related: {
    owners: Org[]
    admins: (User | SubjectSet<Team, "members">)[]
    maintainers: (User | SubjectSet<Team, "members">)[]
    writers: (User | SubjectSet<Team, "members">)[]
    triagers: (User | SubjectSet<Team, "members">)[]
    readers: (User | SubjectSet<Team, "members">)[]
  }
  permits = {
    admin: (ctx: Context): boolean =>
      this.related.admins.includes(ctx.subject) ||
      this.related.owners.traverse((o) => o.related.repo_admins.includes(ctx.subject)),
    maintain: (ctx: Context): boolean =>
      this.related.maintainers.includes(ctx.subject) || this.permits.admin(ctx),
    write: (ctx: Context): boolean =>
      this.related.writers.includes(ctx.subject) || this.permits.maintain(ctx),
    triage: (ctx: Context): boolean =>
      this.related.triagers.includes(ctx.subject) || this.permits.write(ctx),
    read: (ctx: Context): boolean =>
      this.related.readers.includes(ctx.subject) || this.permits.triage(ctx) ||
      this.related.owners.traverse((o) => o.related.repo_readers.includes(ctx.subject)),
  }
}
"#;

/// The same for SpiceDB.
pub const SPICEDB_SCHEMA: &str = "
definition user {}
definition group {
  relation members: user | group#members
}
definition folder {
  relation parents: folder
  relation viewers: user | group#members
  permission view = viewers + parents->view
}
definition doc {
  relation parents: folder
  relation owners: user
  relation viewers: user | group#members
  permission view = owners + viewers + parents->view
}
definition team {
  relation members: user | team#members
}
definition org {
  relation members: user
  relation repo_admins: user
  relation repo_readers: user | org#members
}
definition repo {
  relation owners: org
  relation admins: user | team#members
  relation maintainers: user | team#members
  relation writers: user | team#members
  relation triagers: user | team#members
  relation readers: user | team#members
  permission admin = admins + owners->repo_admins
  permission maintain = maintainers + admin
  permission write = writers + maintain
  permission triage = triagers + write
  permission read = readers + triage + owners->repo_readers
}
";

/// How objects and people are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Ids {
    /// By short names with a number.
    Short,
    /// By UUIDs, as identities are.
    Uuid,
}

/// How much of everything there is.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    ids: Ids,
    copies: u64,
    docs: u64,
    repos: u64,
    lists: &'static [u64],
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    /// A tuple itself.
    Direct,
    /// A member of a group within a group within a group.
    ThreeHops,
    /// The same ten groups deep.
    TenHops,
    /// A member of a group of ten thousand.
    WideMember,
    /// Somebody who is no member of it.
    WideStranger,
    /// A member of one of the innermost of 1,365 groups, four within each, six deep.
    NestMember,
    /// Somebody who is in none of them.
    NestStranger,
    /// Who may view the outermost of fifty folders views the innermost.
    DeepViewer,
    /// Somebody who may not.
    DeepStranger,
    /// Who views a document since a group views a folder above it.
    DriveViewer,
    /// Somebody who does not.
    DriveStranger,
    /// Who reads a repository as a member of a team within a team.
    HubReader,
    /// Somebody who does not.
    HubStranger,
}

impl Model {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Direct,
        Self::ThreeHops,
        Self::TenHops,
        Self::WideMember,
        Self::WideStranger,
        Self::NestMember,
        Self::NestStranger,
        Self::DeepViewer,
        Self::DeepStranger,
        Self::DriveViewer,
        Self::DriveStranger,
        Self::HubReader,
        Self::HubStranger,
    ];

    /// What it is called in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::ThreeHops => "3 hops",
            Self::TenHops => "10 hops",
            Self::WideMember => "group of 10,000, member",
            Self::WideStranger => "group of 10,000, stranger",
            Self::NestMember => "1,365 groups 6 deep, member",
            Self::NestStranger => "1,365 groups 6 deep, stranger",
            Self::DeepViewer => "folder 50 deep, viewer",
            Self::DeepStranger => "folder 50 deep, stranger",
            Self::DriveViewer => "Drive-like, viewer",
            Self::DriveStranger => "Drive-like, stranger",
            Self::HubReader => "GitHub-like, reader",
            Self::HubStranger => "GitHub-like, stranger",
        }
    }

    /// What must be answered.
    pub const fn holds(self) -> bool {
        !matches!(
            self,
            Self::WideStranger
                | Self::NestStranger
                | Self::DeepStranger
                | Self::DriveStranger
                | Self::HubStranger
        )
    }
}

impl Scale {
    /// About `tuples` in all; the models that are copied take a tenth at most of a
    /// large graph.
    pub fn of(tuples: u64, ids: Ids) -> Self {
        let lists: &[u64] = if tuples >= 1_000_000 { &[1_000, 100_000] } else { &[1_000] };
        Self {
            ids,
            copies: (tuples / 1_000).clamp(20, 10_000),
            docs: (tuples / 5).max(100_000.min(lists.iter().sum())),
            repos: tuples / 11,
            lists,
        }
    }

    /// How many results there are lists of.
    pub fn lists(&self) -> &'static [u64] {
        self.lists
    }

    fn name(&self, kind: &str, number: u64) -> String {
        match self.ids {
            Ids::Short => format!("{kind}-{number}"),
            Ids::Uuid => {
                let hash = blake(kind, number);
                let hex = |range: std::ops::Range<usize>| -> String {
                    hash[range].iter().map(|byte| format!("{byte:02x}")).collect()
                };
                let (a, b, c, d, e) = (hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16));
                format!("{a}-{b}-4{}-a{}-{e}", &c[1..], &d[1..])
            }
        }
    }

    fn user(&self, kind: &str, number: u64) -> Subject {
        Subject::Id(self.name(kind, number))
    }

    fn tuple(&self, at: (&str, &str, u64), relation: &str, subject: Subject) -> Tuple {
        Tuple::new(at.0, self.name(at.1, at.2), relation, subject)
    }

    fn set(&self, at: (&str, &str, u64), relation: &str) -> Subject {
        Subject::Set(SubjectSet::new(at.0, self.name(at.1, at.2), relation))
    }

    /// The subject of the list with so many results.
    pub fn lister(&self, results: u64) -> Subject {
        self.user("lister", results)
    }

    /// Every tuple, those of one object not far from one another.
    pub fn tuples(self) -> impl Iterator<Item = Tuple> + Send {
        let copies = (0..self.copies).flat_map(move |copy| self.copy(copy));
        let wide = (0..WIDE)
            .map(move |at| self.tuple(("Group", "wide", 0), "members", self.user("user", at)));
        let lists = self.lists.iter().flat_map(move |results| {
            (0..*results)
                .map(move |doc| self.tuple(("Doc", "doc", doc), "viewers", self.lister(*results)))
        });
        let drive = (0..self.docs).flat_map(move |doc| self.drive(doc));
        let hub = (0..self.repos).flat_map(move |repo| self.hub(repo));
        copies.chain(wide).chain(self.nest()).chain(lists).chain(drive).chain(hub)
    }

    /// The copied models.
    fn copy(&self, copy: u64) -> Vec<Tuple> {
        let mut tuples =
            vec![self.tuple(("Group", "direct", copy), "members", self.user("user", copy))];
        for (kind, hops) in [("short", 3), ("long", 10)] {
            for hop in 0..hops {
                let next = copy * hops + hop + 1;
                let subject = if hop + 1 < hops {
                    self.set(("Group", kind, next), "members")
                } else {
                    self.user("user", copy)
                };
                tuples.push(self.tuple(("Group", kind, copy * hops + hop), "members", subject));
            }
        }
        for at in 0..DEEP - 1 {
            let parent = self.set(("Folder", "deep", copy * DEEP + at + 1), "");
            tuples.push(self.tuple(("Folder", "deep", copy * DEEP + at), "parents", parent));
        }
        let top = ("Folder", "deep", copy * DEEP + DEEP - 1);
        tuples.push(self.tuple(top, "viewers", self.user("user", copy)));
        tuples
    }

    /// Groups within groups: those within the one with a number are numbered from four
    /// times that plus one on.
    fn nest(self) -> impl Iterator<Item = Tuple> + Send {
        let inner = NEST_INNERMOST;
        let within = (0..inner).flat_map(move |group| {
            (1..=NEST).map(move |at| {
                let group = ("Group", "nest", group);
                let subject = ("Group", "nest", group.2 * NEST + at);
                self.tuple(group, "members", self.set(subject, "members"))
            })
        });
        let members = (inner..NEST_GROUPS).map(move |group| {
            self.tuple(("Group", "nest", group), "members", self.user("nested", group))
        });
        within.chain(members)
    }

    fn folders(&self) -> u64 {
        (self.docs / 8).max(9)
    }

    fn groups(&self) -> u64 {
        (self.docs / 100).max(1)
    }

    /// A document, and what is made with every eighth and every hundredth.
    fn drive(&self, doc: u64) -> Vec<Tuple> {
        let mut tuples = vec![
            self.tuple(("Doc", "doc", doc), "parents", self.set(("Folder", "folder", doc / 8), "")),
            self.tuple(("Doc", "doc", doc), "owners", self.user("user", doc % 50_000)),
        ];
        if doc.is_multiple_of(4) {
            let viewer = self.user("user", (doc * 7 + 3) % 50_000);
            tuples.push(self.tuple(("Doc", "doc", doc), "viewers", viewer));
        }
        if doc.is_multiple_of(8) && doc / 8 < self.folders() {
            let folder = doc / 8;
            if folder > 0 {
                let parent = self.set(("Folder", "folder", folder / 8), "");
                tuples.push(self.tuple(("Folder", "folder", folder), "parents", parent));
            }
            if (1..9).contains(&folder) || folder.is_multiple_of(5) && folder > 0 {
                let viewers = self.set(("Group", "group", folder % self.groups()), "members");
                tuples.push(self.tuple(("Folder", "folder", folder), "viewers", viewers));
            }
        }
        if doc.is_multiple_of(100) && doc / 100 < self.groups() {
            let group = doc / 100;
            let within = self.set(("Group", "inner", group), "members");
            tuples.push(self.tuple(("Group", "group", group), "members", within));
            for at in 0..10 {
                let member = self.user("staff", group * 10 + at);
                tuples.push(self.tuple(("Group", "group", group), "members", member));
                let member = self.user("inner-staff", group * 10 + at);
                tuples.push(self.tuple(("Group", "inner", group), "members", member));
            }
        }
        tuples
    }

    /// A repository, and what is made with every fifth and every fiftieth.
    fn hub(&self, repo: u64) -> Vec<Tuple> {
        let at = ("Repo", "repo", repo);
        let team = repo / 5;
        let mut tuples = vec![
            self.tuple(at, "owners", self.set(("Org", "org", repo / 50), "")),
            self.tuple(at, "readers", self.set(("Team", "team", team), "members")),
            self.tuple(at, "writers", self.user("user", (repo * 11 + 5) % 50_000)),
        ];
        if repo.is_multiple_of(2) {
            tuples.push(self.tuple(at, "admins", self.set(("Team", "leads", team), "members")));
        }
        if repo.is_multiple_of(5) {
            let within = self.set(("Team", "squad", team), "members");
            tuples.push(self.tuple(("Team", "team", team), "members", within));
            for member in 0..4 {
                let squad = self.user("coder", team * 4 + member);
                tuples.push(self.tuple(("Team", "squad", team), "members", squad));
            }
            tuples.push(self.tuple(("Team", "leads", team), "members", self.user("lead", team)));
        }
        if repo.is_multiple_of(50) {
            let org = ("Org", "org", repo / 50);
            tuples.push(self.tuple(org, "repo_readers", self.set(org, "members")));
            for member in 0..20 {
                let member = self.user("employee", repo / 50 * 20 + member);
                tuples.push(self.tuple(org, "members", member));
            }
            tuples.push(self.tuple(org, "repo_admins", self.user("owner", repo / 50)));
        }
        tuples
    }

    /// How many different questions a model has.
    pub fn questions(&self, model: Model) -> u64 {
        match model {
            Model::WideMember | Model::WideStranger => WIDE,
            Model::NestMember | Model::NestStranger => NEST_GROUPS - NEST_INNERMOST,
            Model::DriveViewer | Model::DriveStranger => self.docs,
            Model::HubReader | Model::HubStranger => self.repos.max(1),
            _ => self.copies,
        }
    }

    /// A question.
    pub fn question(&self, model: Model, number: u64) -> Tuple {
        let n = number % self.questions(model);
        let stranger = || self.user("stranger", n);
        let deep = ("Folder", "deep", n * DEEP);
        match model {
            Model::Direct => self.tuple(("Group", "direct", n), "members", self.user("user", n)),
            Model::ThreeHops => {
                self.tuple(("Group", "short", n * 3), "members", self.user("user", n))
            }
            Model::TenHops => {
                self.tuple(("Group", "long", n * 10), "members", self.user("user", n))
            }
            Model::WideMember => self.tuple(("Group", "wide", 0), "members", self.user("user", n)),
            Model::WideStranger => self.tuple(("Group", "wide", 0), "members", stranger()),
            Model::NestMember => {
                let member = self.user("nested", NEST_INNERMOST + n);
                self.tuple(("Group", "nest", 0), "members", member)
            }
            Model::NestStranger => self.tuple(("Group", "nest", 0), "members", stranger()),
            Model::DeepViewer => self.tuple(deep, "view", self.user("user", n)),
            Model::DeepStranger => self.tuple(deep, "view", stranger()),
            Model::DriveViewer => {
                // Somewhere below the root every way up meets a folder that a group views.
                let mut folder = n / 8;
                while folder > 8 && !folder.is_multiple_of(5) {
                    folder /= 8;
                }
                let viewer = match folder {
                    0 => self.user("user", n % 50_000),
                    folder => self.user("inner-staff", folder % self.groups() * 10 + n % 10),
                };
                self.tuple(("Doc", "doc", n), "view", viewer)
            }
            Model::DriveStranger => self.tuple(("Doc", "doc", n), "view", stranger()),
            Model::HubReader => {
                let reader = self.user("coder", n / 5 * 4 + n % 4);
                self.tuple(("Repo", "repo", n), "read", reader)
            }
            Model::HubStranger => self.tuple(("Repo", "repo", n), "read", stranger()),
        }
    }
}

/// Sixteen bytes of a name.
fn blake(kind: &str, number: u64) -> [u8; 16] {
    let mut random = crate::random::Random::new(
        kind.bytes().fold(number.wrapping_mul(0x9e37_79b9_7f4a_7c15), |hash, byte| {
            hash.rotate_left(9) ^ u64::from(byte).wrapping_mul(0x0100_0000_01b3)
        }),
    );
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&random.bits().to_be_bytes());
    bytes[8..].copy_from_slice(&random.bits().to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cardea_permission::{language::Language, opl::SourceFile};

    use super::*;

    #[test]
    fn language_is_one_and_every_tuple_is_another() {
        let text = LANGUAGE.to_owned();
        let language = Language::read(&[SourceFile { name: "bench.ts".to_owned(), text }]);
        let language = language.unwrap();
        for ids in [Ids::Short, Ids::Uuid] {
            let tuples: Vec<Tuple> = Scale::of(10_000, ids).tuples().collect();
            let different: BTreeSet<&Tuple> = tuples.iter().collect();
            assert_eq!(different.len(), tuples.len());
            assert!((10_000..40_000).contains(&tuples.len()), "{}", tuples.len());
            for tuple in tuples {
                assert!(language.names(&tuple.namespace).any(|name| name == tuple.relation));
            }
        }
    }
}
