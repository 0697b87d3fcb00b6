//! The functions of the library that are about arrays.

use std::cmp::Ordering;

use super::{
    Failed,
    library::Given,
    machine::{Callable, Machine, Thunk, ThunkId, Val, wrong},
    operators::{finite, whole},
};

impl Machine {
    fn asks(&mut self, function: &Callable, item: ThunkId) -> Result<bool, Failed> {
        match self.call(function, vec![item])? {
            Val::Bool(yes) => Ok(yes),
            other => wrong(format!("a function gave {}, not a boolean", other.kind())),
        }
    }

    pub(super) fn later(
        &mut self,
        function: &Callable,
        arguments: Vec<ThunkId>,
    ) -> Result<ThunkId, Failed> {
        self.thunk(Thunk::WaitsForCall(function.clone(), arguments))
    }

    pub(super) fn array_function(&mut self, given: &Given) -> Result<Option<Val>, Failed> {
        let done = match given.name {
            "all" | "any" => {
                let wanted = given.name == "any";
                for item in &*self.items_of(given, 0)? {
                    match self.force(*item)? {
                        Val::Bool(value) if value == wanted => return Ok(Some(Val::Bool(wanted))),
                        Val::Bool(_) => {}
                        other => return given.mistaken("booleans", &other),
                    }
                }
                Val::Bool(!wanted)
            }
            "contains" | "member" | "count" | "find" => {
                let (items, sought) = if given.name == "find" { (1, 0) } else { (0, 1) };
                let sought = self.value(given, sought)?;
                if given.name == "member"
                    && let (Val::Text(text), Val::Text(part)) = (self.value(given, items)?, &sought)
                {
                    return Ok(Some(Val::Bool(text.contains(&**part))));
                }
                let mut found = Vec::new();
                for (at, item) in self.items_of(given, items)?.iter().enumerate() {
                    let item = self.force(*item)?;
                    if self.equal(&item, &sought)? {
                        found.push(Val::Number(at as f64));
                    }
                }
                match given.name {
                    "count" => Val::Number(found.len() as f64),
                    "find" => self.array_of(found)?,
                    _ => Val::Bool(!found.is_empty()),
                }
            }
            "filter" | "filterMap" => {
                let keeps = self.function_of(given, 0)?;
                let maps = given.name == "filterMap";
                let mut kept = Vec::new();
                for item in &*self.items_of(given, if maps { 2 } else { 1 })? {
                    if self.asks(&keeps, *item)? {
                        kept.push(*item);
                    }
                }
                if maps {
                    let map = self.function_of(given, 1)?;
                    for item in &mut kept {
                        *item = self.later(&map, vec![*item])?;
                    }
                }
                self.array(kept)?
            }
            "map" | "mapWithIndex" => {
                let map = self.function_of(given, 0)?;
                let items = self.items_of(given, 1)?;
                let mut mapped = Vec::with_capacity(items.len());
                for (at, item) in items.iter().enumerate() {
                    let arguments = if given.name == "map" {
                        vec![*item]
                    } else {
                        vec![self.made(Val::Number(at as f64))?, *item]
                    };
                    mapped.push(self.later(&map, arguments)?);
                }
                self.array(mapped)?
            }
            "flatMap" | "flattenArrays" => {
                let flattens = given.name == "flattenArrays";
                let map = if flattens { None } else { Some(self.function_of(given, 0)?) };
                let mut flat = Vec::new();
                for item in &*self.items_of(given, usize::from(!flattens))? {
                    let inner = match &map {
                        Some(map) => self.call(map, vec![*item])?,
                        None => self.force(*item)?,
                    };
                    match inner {
                        Val::Array(inner) => flat.extend(inner.iter().copied()),
                        Val::Null if map.is_some() => {}
                        other => return given.mistaken("arrays", &other),
                    }
                    self.spend(8 * flat.len().min(64))?;
                }
                self.array(flat)?
            }
            "foldl" | "foldr" => {
                let fold = self.function_of(given, 0)?;
                let mut items = self.items_of(given, 1)?.to_vec();
                if given.name == "foldr" {
                    items.reverse();
                }
                let mut sum = self.value(given, 2)?;
                for item in items {
                    let so_far = self.made(sum)?;
                    let arguments =
                        if given.name == "foldl" { vec![so_far, item] } else { vec![item, so_far] };
                    sum = self.call(&fold, arguments)?;
                }
                sum
            }
            "makeArray" => {
                let count = whole(self.number_of(given, 0)?)?;
                let make = self.function_of(given, 1)?;
                let mut items = Vec::new();
                for at in 0..count {
                    self.step()?;
                    let at = self.made(Val::Number(at as f64))?;
                    items.push(self.later(&make, vec![at])?);
                }
                self.array(items)?
            }
            "range" => {
                let (from, to) =
                    (whole(self.number_of(given, 0)?)?, whole(self.number_of(given, 1)?)?);
                let mut items = Vec::new();
                for number in from..=to {
                    self.step()?;
                    items.push(self.made(Val::Number(number as f64))?);
                }
                self.array(items)?
            }
            "reverse" => {
                let mut items = self.items_of(given, 0)?.to_vec();
                items.reverse();
                self.array(items)?
            }
            "sum" => {
                let mut sum = 0.0;
                for item in &*self.items_of(given, 0)? {
                    match self.force(*item)? {
                        Val::Number(number) => sum += number,
                        other => return given.mistaken("numbers", &other),
                    }
                }
                finite(sum)?
            }
            "set" | "sort" | "uniq" => {
                let sorts = given.name != "uniq";
                let unique = given.name != "sort";
                let sorted = self.sorted(given, sorts, unique)?;
                self.array(sorted)?
            }
            "setMember" => {
                let key = match given.optional(2) {
                    Some(_) => Some(self.function_of(given, 2)?),
                    None => None,
                };
                let sought = self.key(given.thunk(0)?, key.as_ref())?;
                let mut found = false;
                for item in &*self.items_of(given, 1)? {
                    let item = self.key(*item, key.as_ref())?;
                    found |= self.equal(&item, &sought)?;
                }
                Val::Bool(found)
            }
            _ => return Ok(None),
        };
        Ok(Some(done))
    }

    fn key(&mut self, item: ThunkId, key: Option<&Callable>) -> Result<Val, Failed> {
        match key {
            Some(key) => self.call(key, vec![item]),
            None => self.force(item),
        }
    }

    fn sorted(&mut self, given: &Given, sorts: bool, unique: bool) -> Result<Vec<ThunkId>, Failed> {
        let key = match given.optional(1) {
            Some(_) => Some(self.function_of(given, 1)?),
            None => None,
        };
        let mut keyed = Vec::new();
        for item in &*self.items_of(given, 0)? {
            keyed.push((self.key(*item, key.as_ref())?, *item));
        }
        if sorts {
            let mut failure = None;
            // A comparison that fails leaves the order open, and is told afterwards.
            keyed.sort_by(|(a, _), (b, _)| match (&failure, self.compare(a, b)) {
                (None, Ok(order)) => order,
                (None, Err(failed)) => {
                    failure = Some(failed);
                    Ordering::Equal
                }
                (Some(_), _) => Ordering::Equal,
            });
            if let Some(failed) = failure {
                return Err(failed);
            }
        }
        let mut kept: Vec<(Val, ThunkId)> = Vec::new();
        for (key, item) in keyed {
            let is_again = match kept.last() {
                Some((last, _)) if unique => self.equal(&last.clone(), &key)?,
                _ => false,
            };
            if !is_again {
                kept.push((key, item));
            }
        }
        Ok(kept.into_iter().map(|(_, item)| item).collect())
    }
}
