//! A row pattern as steps of a search with backtracking. It knows nothing of rows.

use eddyline_planner::plan::MatchPattern;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The next row is one of this variable.
    Row(usize),
    /// The first way, and if that leads to nothing the second.
    Either(usize, usize),
    Jump(usize),
    Match,
}

pub(super) fn program(pattern: &MatchPattern) -> Vec<Step> {
    let mut steps = Vec::new();
    add(pattern, &mut steps);
    steps.push(Step::Match);
    steps
}

fn add(pattern: &MatchPattern, steps: &mut Vec<Step>) {
    match pattern {
        MatchPattern::Variable(variable) => steps.push(Step::Row(*variable)),
        MatchPattern::Concat(parts) => parts.iter().for_each(|part| add(part, steps)),
        MatchPattern::Alternation(parts) => {
            let mut ends = Vec::new();
            for (number, part) in parts.iter().enumerate() {
                if number + 1 == parts.len() {
                    add(part, steps);
                    break;
                }
                let at = steps.len();
                steps.push(Step::Jump(0));
                add(part, steps);
                ends.push(steps.len());
                steps.push(Step::Jump(0));
                steps[at] = Step::Either(at + 1, steps.len());
            }
            let end = steps.len();
            ends.into_iter().for_each(|at| steps[at] = Step::Jump(end));
        }
        MatchPattern::Repeat { pattern, min, max, reluctant } => {
            (0..*min).for_each(|_| add(pattern, steps));
            let either =
                |inside: usize, behind: usize| if *reluctant { Step::Either(behind, inside) } else { Step::Either(inside, behind) };
            match max {
                None => {
                    let at = steps.len();
                    steps.push(Step::Jump(0));
                    add(pattern, steps);
                    steps.push(Step::Jump(at));
                    steps[at] = either(at + 1, steps.len());
                }
                Some(max) => {
                    let mut places = Vec::new();
                    for _ in *min..*max {
                        places.push(steps.len());
                        steps.push(Step::Jump(0));
                        add(pattern, steps);
                    }
                    let end = steps.len();
                    places.into_iter().for_each(|at| steps[at] = either(at + 1, end));
                }
            }
        }
    }
}
