//! How much of a sink's log waits to be acknowledged, by the numbers of the steps that it goes with. It knows nothing of what the log
//! holds: rows and the commits that cover them stay in it equally long.

use std::collections::VecDeque;

/// Steps are counted together up to this many bytes: those of a log of 4 GiB in a megabyte of memory, however small they are. They go
/// together, too, when the last of them is acknowledged.
const TOGETHER_BYTES: u64 = 64 << 10;

#[derive(Debug, Default)]
pub struct Waiting {
    acknowledged: u64,
    bytes: u64,
    /// By the last numbers of steps that are counted together.
    steps: VecDeque<(u64, u64)>,
}

impl Waiting {
    /// Nothing beyond this number is acknowledged.
    pub fn after(acknowledged: u64) -> Self {
        Waiting { acknowledged, ..Waiting::default() }
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The log has something that goes with this number, which is none before those already counted.
    pub fn add(&mut self, number: u64, bytes: u64) {
        if number <= self.acknowledged {
            return;
        }
        self.bytes += bytes;
        match self.steps.back_mut() {
            Some(last) if last.0 == number || last.1 + bytes <= TOGETHER_BYTES => *last = (number, last.1 + bytes),
            _ => self.steps.push_back((number, bytes)),
        }
    }

    /// Everything up to this number is durable outside.
    pub fn acknowledge(&mut self, number: u64) {
        self.acknowledged = self.acknowledged.max(number);
        while let Some((_, bytes)) = self.steps.pop_front_if(|(last, _)| *last <= number) {
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_acknowledged_goes_with_its_commits() {
        let mut waiting = Waiting::after(3);
        waiting.add(3, 500);
        assert_eq!(waiting.bytes(), 0, "it is outside already");
        for number in 4..8 {
            waiting.add(number, TOGETHER_BYTES - 1);
            waiting.add(number, 10);
        }
        assert_eq!(waiting.bytes(), 4 * (TOGETHER_BYTES + 9));
        waiting.acknowledge(5);
        assert_eq!(waiting.bytes(), 2 * (TOGETHER_BYTES + 9));
        waiting.acknowledge(9);
        assert_eq!((waiting.bytes(), waiting.acknowledged()), (0, 9));
    }

    #[test]
    fn small_steps_are_counted_together() {
        let mut waiting = Waiting::after(0);
        let steps = 10 * TOGETHER_BYTES / 100;
        (1..=steps).for_each(|number| waiting.add(number, 100));
        assert!(waiting.steps.len() <= 11, "{} counts", waiting.steps.len());
        waiting.acknowledge(steps - 1);
        assert!((100..=TOGETHER_BYTES).contains(&waiting.bytes()));
        waiting.acknowledge(steps);
        assert_eq!(waiting.bytes(), 0);
    }
}
