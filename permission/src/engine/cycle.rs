//! What is left when every question waits for another: cycles.
//!
//! A set of questions that wait for nothing but one another can only hold through one
//! another, so none of them holds. That is a [doubt](super::Value::Doubt), since a
//! negation must not make a grant of it; and where one of them waits for another's
//! negation, there is no answer at all.

use std::collections::{HashMap, HashSet};

use super::{
    Engine,
    node::{Bound, NodeId},
    value::{Finding, Why},
};

impl Engine<'_> {
    /// Answers at least one question that waits for itself.
    pub(super) fn break_cycles(&mut self, root: NodeId) {
        let edges = self.waiting_from(root);
        let mut broken = false;
        // Those that others lead to come first, so a chain of cycles is answered at once.
        for component in components(root, &edges) {
            // What an answer to another cycle left of this one is looked at anew.
            if component.iter().any(|id| self.nodes.finding(*id).is_some()) {
                continue;
            }
            let members: HashSet<NodeId> = component.iter().copied().collect();
            let waits_for = || component.iter().flat_map(|id| &edges[id]);
            let outside = |to: &NodeId| !members.contains(to);
            if waits_for().any(|(to, _)| outside(to) && self.nodes.finding(*to).is_none()) {
                continue;
            }
            let negated = waits_for().any(|(to, negated)| *negated && !outside(to));
            self.answer_cycle(&component, &members, negated);
            broken = true;
        }
        // Every finite graph has a component that nothing leaves.
        assert!(broken, "questions wait for nothing");
    }

    /// The undecided questions that one waits for, through whatever others, each with
    /// those that it waits for itself.
    fn waiting_from(&self, root: NodeId) -> HashMap<NodeId, Vec<(NodeId, bool)>> {
        let mut edges = HashMap::new();
        let mut left = vec![root];
        while let Some(id) = left.pop() {
            if edges.contains_key(&id) {
                continue;
            }
            let node = self.nodes.get(id);
            let mut to: Vec<(NodeId, bool)> =
                node.members.iter().map(|member| (member.id, false)).collect();
            if let Some(formula) = &node.formula {
                formula.nodes(false, &mut to);
            }
            to.retain(|(id, _)| self.nodes.finding(*id).is_none());
            left.extend(to.iter().map(|(id, _)| *id));
            edges.insert(id, to);
        }
        edges
    }

    fn answer_cycle(&mut self, component: &[NodeId], members: &HashSet<NodeId>, negated: bool) {
        let mut assumed: HashMap<NodeId, Finding> = component
            .iter()
            .map(|id| {
                let cycle = if negated {
                    Finding::undecided(Why::Cycle)
                } else {
                    Finding::doubt(Why::Cycle)
                };
                (*id, cycle)
            })
            .collect();
        if !negated {
            // What a limit cut short counts for more than a cycle does.
            let mut above: HashMap<NodeId, Vec<NodeId>> = HashMap::new();
            for id in component {
                for below in self.below(*id).into_iter().filter(|below| members.contains(below)) {
                    above.entry(below).or_default().push(*id);
                }
            }
            let mut left: Vec<NodeId> = component.to_vec();
            while let Some(id) = left.pop() {
                let found = self.suppose(id, &assumed);
                if found.value > assumed[&id].value {
                    assumed.insert(id, found);
                    left.extend(above.get(&id).into_iter().flatten());
                }
            }
        }
        // All at once: none of them is to be decided by another.
        let mut waiting = Vec::new();
        for id in component {
            self.settle(*id, assumed[id], &mut waiting);
        }
        waiting.into_iter().for_each(|id| self.look_at(id));
    }

    fn below(&self, id: NodeId) -> Vec<NodeId> {
        let node = self.nodes.get(id);
        let mut found: Vec<(NodeId, bool)> = Vec::new();
        if let Some(formula) = &node.formula {
            formula.nodes(false, &mut found);
        }
        let members = node.members.iter().map(|member| member.id);
        found.into_iter().map(|(id, _)| id).chain(members).collect()
    }

    /// The answer to a question if those assumed are right.
    fn suppose(&self, id: NodeId, assumed: &HashMap<NodeId, Finding>) -> Finding {
        let of = |id: &NodeId| {
            assumed.get(id).copied().or_else(|| self.nodes.finding(*id)).unwrap_or(Finding::NO)
        };
        let node = self.nodes.get(id);
        let members = node.members.iter().map(|member| member.gives(of(&member.id)));
        let listed = members.fold(node.best, Finding::or);
        match &node.formula {
            Some(formula) => listed.or(evaluate(formula, &of)),
            None => listed,
        }
    }
}

fn evaluate(formula: &Bound, of: &impl Fn(&NodeId) -> Finding) -> Finding {
    match formula {
        Bound::Known(finding) => *finding,
        Bound::Node(id) => of(id),
        Bound::Or(terms) => {
            terms.iter().map(|term| evaluate(term, of)).fold(Finding::NO, Finding::or)
        }
        Bound::And(terms) => {
            terms.iter().map(|term| evaluate(term, of)).fold(Finding::YES, Finding::and)
        }
        Bound::Not(inner) => evaluate(inner, of).not(),
    }
}

/// The strongly connected components that can be reached from a node, those that
/// others lead to first. Tarjan's algorithm, without recursion.
fn components(root: NodeId, edges: &HashMap<NodeId, Vec<(NodeId, bool)>>) -> Vec<Vec<NodeId>> {
    #[derive(Clone, Copy)]
    struct Mark {
        index: u32,
        low: u32,
        stacked: bool,
    }
    let mut marks: HashMap<NodeId, Mark> = HashMap::new();
    let (mut stack, mut path) = (Vec::new(), vec![(root, 0_usize)]);
    let mut found = Vec::new();
    let mut next = 0;
    while let Some((id, at)) = path.pop() {
        if at == 0 {
            marks.insert(id, Mark { index: next, low: next, stacked: true });
            next += 1;
            stack.push(id);
        }
        let mut low = marks[&id].low;
        if at > 0 {
            low = low.min(marks[&edges[&id][at - 1].0].low);
        }
        let mut at = at;
        let mut deeper = None;
        while let Some((to, _)) = edges[&id].get(at) {
            at += 1;
            match marks.get(to) {
                None => {
                    deeper = Some(*to);
                    break;
                }
                Some(mark) if mark.stacked => low = low.min(mark.index),
                Some(_) => {}
            }
        }
        if let Some(mark) = marks.get_mut(&id) {
            mark.low = low;
        }
        if let Some(to) = deeper {
            path.push((id, at));
            path.push((to, 0));
            continue;
        }
        if low == marks[&id].index {
            let from = stack.iter().rposition(|stacked| *stacked == id).unwrap_or(0);
            let component: Vec<NodeId> = stack.drain(from..).collect();
            for id in &component {
                if let Some(mark) = marks.get_mut(id) {
                    mark.stacked = false;
                }
            }
            found.push(component);
        }
    }
    found
}
