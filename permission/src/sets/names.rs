//! Numbers for the names of sets: of each object once, however many of its relations are
//! met in however many indexes.

use std::collections::HashMap;

use crate::model::SubjectSet;

/// What an object's name costs beside its bytes.
const OBJECT_BYTES: usize = 96;

/// An object, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectId(pub(super) u32);

/// A relation or permission on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SetId(u64);

impl SetId {
    pub(super) fn object(self) -> ObjectId {
        ObjectId((self.0 >> 32) as u32)
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Of namespaces, relations and permissions: few.
    words: HashMap<Box<str>, u32>,
    /// The objects of each namespace, by its number among the words.
    objects: Vec<HashMap<Box<str>, u32>>,
    /// How many objects there are.
    number: u32,
    bytes: usize,
}

impl Names {
    /// The number of a set whose names have some.
    pub(super) fn find(&self, set: &SubjectSet) -> Option<SetId> {
        let (namespace, relation) =
            (self.words.get(&*set.namespace)?, self.words.get(&*set.relation)?);
        let object = self.objects.get(*namespace as usize)?.get(&*set.object)?;
        Some(SetId(u64::from(*object) << 32 | u64::from(*relation)))
    }

    /// The number of a set; whether its object is a new one.
    pub(super) fn give(&mut self, set: &SubjectSet) -> (SetId, bool) {
        let (namespace, relation) = (self.word(&set.namespace), self.word(&set.relation));
        let objects = &mut self.objects[namespace as usize];
        let (object, new) = match objects.get(&*set.object) {
            Some(known) => (*known, false),
            None => {
                // Memory ends long before these do.
                let number = self.number;
                self.number = number.saturating_add(1);
                self.bytes += OBJECT_BYTES + set.object.len();
                objects.insert(set.object.as_str().into(), number);
                (number, true)
            }
        };
        (SetId(u64::from(object) << 32 | u64::from(relation)), new)
    }

    fn word(&mut self, word: &str) -> u32 {
        if let Some(known) = self.words.get(word) {
            return *known;
        }
        let number = u32::try_from(self.words.len()).unwrap_or(u32::MAX);
        self.bytes += 2 * OBJECT_BYTES + word.len();
        self.words.insert(word.into(), number);
        self.objects.push(HashMap::new());
        number
    }

    /// How many bytes all takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_have_numbers_of_their_own_and_objects_share_theirs() {
        let mut names = Names::default();
        let texts = ["G:1#m", "G:1#n", "G:2#m", "F:1#m", "m:1#G", "G:1"];
        let sets = texts.map(|text| text.parse::<SubjectSet>().unwrap());
        assert_eq!(names.find(&sets[0]), None);
        let given = sets.each_ref().map(|set| names.give(set));
        assert_eq!(given.map(|(_, new)| new), [true, false, true, true, true, false]);
        let before = names.bytes();
        for (at, set) in sets.iter().enumerate() {
            assert_eq!(names.find(set), Some(given[at].0));
            assert_eq!(names.give(set), (given[at].0, false));
            let same = given.iter().filter(|(id, _)| *id == given[at].0).count();
            assert_eq!(same, 1, "{set}");
        }
        assert_eq!(given[0].0.object(), given[1].0.object());
        assert_ne!(given[0].0.object(), given[3].0.object());
        assert_eq!(names.bytes(), before);
        assert_eq!(names.find(&"G:3#m".parse().unwrap()), None);
    }
}
