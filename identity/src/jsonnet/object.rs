//! Objects: layers, each over the one before, so that `+` joins them and `super` is
//! what lies below.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    Failed,
    machine::{Machine, ObjectId, ScopeId, Thunk, ThunkId, Val, wrong},
    syntax::{Members, Node, ObjectFor, Text, Visibility},
};

/// An object with what was made of it.
#[derive(Debug)]
pub(super) struct Object {
    layers: Vec<Rc<Layer>>,
    /// Fields by name and layer, once they were asked for.
    fields: BTreeMap<(Text, usize), ThunkId>,
    /// The scope within each layer.
    scopes: Vec<Option<ScopeId>>,
    is_checked: bool,
}

/// What one pair of braces says.
#[derive(Debug)]
pub(super) struct Layer {
    kind: Kind,
    /// Names, in the order in which they were written.
    names: Vec<Text>,
    fields: BTreeMap<Text, Place>,
}

#[derive(Debug)]
enum Kind {
    Written(Rc<Members>, ScopeId),
    /// Each round of the comprehension has a scope of its own.
    Repeated(Rc<ObjectFor>),
    /// Values that were there before.
    Given,
}

/// Where a field's value comes from.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// The field of the tree, and the scope of its round in a comprehension.
    Field(usize, Option<ScopeId>),
    Value(ThunkId, bool),
}

impl Layer {
    pub(super) fn written(members: Rc<Members>, scope: ScopeId) -> Self {
        Self::new(Kind::Written(members, scope))
    }

    pub(super) fn repeated(object: Rc<ObjectFor>) -> Self {
        Self::new(Kind::Repeated(object))
    }

    /// A layer of values; those that are hidden are in no result.
    pub(super) fn given(values: Vec<(Text, ThunkId)>, hidden: bool) -> Self {
        let mut layer = Self::new(Kind::Given);
        for (name, value) in values {
            if layer.fields.insert(name.clone(), Place::Value(value, hidden)).is_none() {
                layer.names.push(name);
            }
        }
        layer
    }

    fn new(kind: Kind) -> Self {
        Self { kind, names: Vec::new(), fields: BTreeMap::new() }
    }

    /// Adds a field; `false` if it is there.
    pub(super) fn add(&mut self, name: Text, at: usize, round: Option<ScopeId>) -> bool {
        if self.fields.contains_key(&name) {
            return false;
        }
        self.names.push(name.clone());
        self.fields.insert(name, Place::Field(at, round));
        true
    }

    fn visibility(&self, name: &str) -> Option<Visibility> {
        Some(match (self.fields.get(name)?, &self.kind) {
            (Place::Field(at, _), Kind::Written(members, _)) => members.fields[*at].visibility,
            (Place::Field(..), Kind::Repeated(object)) => object.field.visibility,
            (Place::Value(_, true), _) => Visibility::Hidden,
            _ => Visibility::Inherited,
        })
    }
}

impl Object {
    /// The highest layer below `below` that has a field.
    pub(super) fn layer_of(&self, name: &str, below: usize) -> Option<usize> {
        (0..below.min(self.layers.len()))
            .rev()
            .find(|at| self.layers[*at].fields.contains_key(name))
    }

    fn is_visible(&self, name: &str) -> bool {
        let said = self.layers.iter().rev().filter_map(|layer| layer.visibility(name));
        let mut said = said.filter(|visibility| *visibility != Visibility::Inherited);
        said.next() != Some(Visibility::Hidden)
    }
}

impl Machine {
    pub(super) fn new_object(&mut self, layers: Vec<Rc<Layer>>) -> Result<Val, Failed> {
        let fields: usize = layers.iter().map(|layer| layer.fields.len()).sum();
        self.spend(96 + 48 * fields)?;
        let id = u32::try_from(self.objects.len()).map_err(|_| Failed::Memory(0))?;
        let scopes = vec![None; layers.len()];
        let fields = BTreeMap::new();
        self.objects.push(Object { layers, fields, scopes, is_checked: false });
        Ok(Val::Object(ObjectId(id)))
    }

    /// An object of values that are there.
    pub(super) fn given_object(&mut self, values: Vec<(Text, ThunkId)>) -> Result<Val, Failed> {
        self.new_object(vec![Rc::new(Layer::given(values, false))])
    }

    /// One object over another.
    pub(super) fn extend(&mut self, below: ObjectId, above: ObjectId) -> Result<Val, Failed> {
        let mut layers = self.objects[below.0 as usize].layers.clone();
        layers.extend(self.objects[above.0 as usize].layers.iter().cloned());
        self.new_object(layers)
    }

    /// The names of an object's fields, sorted; the hidden ones too if asked for.
    pub(super) fn names(&mut self, id: ObjectId, hidden: bool) -> Result<Vec<Text>, Failed> {
        let object = &self.objects[id.0 as usize];
        let mut names: Vec<Text> =
            object.layers.iter().flat_map(|layer| layer.names.iter().cloned()).collect();
        names.sort();
        names.dedup();
        names.retain(|name| hidden || object.is_visible(name));
        self.spend(16 * names.len())?;
        Ok(names)
    }

    pub(super) fn has_field(&self, id: ObjectId, name: &str, hidden: bool) -> bool {
        let object = &self.objects[id.0 as usize];
        object.layer_of(name, usize::MAX).is_some() && (hidden || object.is_visible(name))
    }

    /// A field that waits; `None` if there is none.
    pub(super) fn field_thunk(
        &mut self,
        id: ObjectId,
        name: &Text,
    ) -> Result<Option<ThunkId>, Failed> {
        self.field_thunk_below(id, usize::MAX, name)
    }

    fn field_thunk_below(
        &mut self,
        id: ObjectId,
        below: usize,
        name: &Text,
    ) -> Result<Option<ThunkId>, Failed> {
        let object = &self.objects[id.0 as usize];
        let Some(layer) = object.layer_of(name, below) else { return Ok(None) };
        let key = (name.clone(), layer);
        if let Some(known) = object.fields.get(&key) {
            return Ok(Some(*known));
        }
        let thunk = match object.layers[layer].fields.get(name) {
            Some(Place::Value(value, _)) => *value,
            _ => self.thunk(Thunk::WaitsForField(id, layer, name.clone()))?,
        };
        self.objects[id.0 as usize].fields.insert(key, thunk);
        Ok(Some(thunk))
    }

    /// A field as `super` has it.
    pub(super) fn field_below(
        &mut self,
        id: ObjectId,
        layer: usize,
        name: &Text,
    ) -> Result<Option<Val>, Failed> {
        match self.field_thunk_below(id, layer, name)? {
            Some(thunk) => self.force(thunk).map(Some),
            None => Ok(None),
        }
    }

    /// A field, by an object that keeps what it asserts.
    pub(super) fn field(&mut self, id: ObjectId, name: &Text) -> Result<Val, Failed> {
        self.check(id)?;
        match self.field_thunk(id, name)? {
            Some(thunk) => self.force(thunk),
            None => wrong(format!("there is no field {name}")),
        }
    }

    /// Evaluates a field of a layer.
    pub(super) fn make_field(
        &mut self,
        id: ObjectId,
        at: usize,
        name: &Text,
    ) -> Result<Val, Failed> {
        let layer = self.objects[id.0 as usize].layers[at].clone();
        let (node, adds, scope) = match (layer.fields.get(name), &layer.kind) {
            (Some(Place::Field(field, _)), Kind::Written(members, _)) => {
                let field = &members.fields[*field];
                (field.value.clone(), field.adds, self.inside(id, at)?)
            }
            (Some(Place::Field(_, Some(round))), Kind::Repeated(object)) => {
                let scope = self.scope(Vec::new(), Some(*round), Some((id, at)))?;
                let scope = self.bind(&object.locals, scope)?;
                (object.field.value.clone(), object.field.adds, scope)
            }
            _ => return wrong(format!("there is no field {name}")),
        };
        self.make(id, at, name, (&node, adds, scope))
    }

    fn make(
        &mut self,
        id: ObjectId,
        at: usize,
        name: &Text,
        (node, adds, scope): (&Node, bool, ScopeId),
    ) -> Result<Val, Failed> {
        let value = self.evaluate(node, scope)?;
        if !adds {
            return Ok(value);
        }
        match self.field_below(id, at, name)? {
            Some(below) => self.binary(super::syntax::Binary::Add, below, value),
            None => Ok(value),
        }
    }

    /// The scope within a layer: its locals, `self`, and `$` if it is outermost.
    fn inside(&mut self, id: ObjectId, at: usize) -> Result<ScopeId, Failed> {
        if let Some(known) = self.objects[id.0 as usize].scopes[at] {
            return Ok(known);
        }
        let layer = self.objects[id.0 as usize].layers[at].clone();
        let Kind::Written(members, outer) = &layer.kind else {
            return wrong("an object has no such part");
        };
        let mut names = Vec::new();
        if self.find(*outer, "$").is_none() {
            names.push(("$".into(), self.made(Val::Object(id))?));
        }
        let scope = self.scope(names, Some(*outer), Some((id, at)))?;
        let scope = self.bind(&members.locals, scope)?;
        self.objects[id.0 as usize].scopes[at] = Some(scope);
        Ok(scope)
    }

    /// Checks what an object asserts, once.
    pub(super) fn check(&mut self, id: ObjectId) -> Result<(), Failed> {
        let object = &mut self.objects[id.0 as usize];
        // Before, so that an assertion may look at its own object.
        if std::mem::replace(&mut object.is_checked, true) {
            return Ok(());
        }
        let layers = object.layers.clone();
        for (at, layer) in layers.iter().enumerate() {
            let Kind::Written(members, _) = &layer.kind else { continue };
            if members.asserts.is_empty() {
                continue;
            }
            let scope = self.inside(id, at)?;
            for (condition, message) in &members.asserts {
                self.assert(condition, message.as_ref(), scope)?;
            }
        }
        Ok(())
    }
}
