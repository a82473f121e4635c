//! What rides in the next run: a pure choice among the conversations that have a row ready.
//!
//! A run is one execution of the model, so what shares it shares its time. Every decode row rides,
//! for it costs little and somebody watches it; of the prefills only `chunk` tokens ride, together,
//! so that a long prompt delays the others by one chunk at most. Candidates come in the order of
//! their last ride, longest ago first: whoever was left out moves to the front, and nobody starves.
//!
//! Lengths are in tokens. Knows no slot, no job and no engine.

/// What a conversation's next row would cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// One position: the next token of a context that is already read.
    Decode,
    /// So many tokens still to read, at least one.
    Prefill(usize),
}

/// A conversation with a row ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    /// What its row costs.
    pub(super) need: Need,
    /// Whether it shares no run.
    pub(super) alone: bool,
}

/// Chooses among `candidates`, which stand in the order of their last ride, longest ago first: who rides
/// and with how many tokens, 0 for a decode row. Not empty unless
/// `candidates` is, or `chunk` is 0 and nobody decodes.
pub(super) fn plan<T>(
    candidates: impl Iterator<Item = (T, Candidate)>,
    chunk: usize,
) -> impl Iterator<Item = (T, usize)> {
    let mut candidates = candidates.peekable();
    // One that rides alone waits until it has come to the front.
    let alone = candidates.peek().is_some_and(|(_, front)| front.alone);
    let count = if alone { 1 } else { usize::MAX };
    let mut left = chunk;
    candidates.take(count).filter(move |(_, candidate)| candidate.alone == alone).filter_map(move |(who, candidate)| {
        match candidate.need {
            Need::Decode => Some((who, 0)),
            Need::Prefill(_) if left == 0 => None,
            Need::Prefill(tokens) => {
                let tokens = tokens.min(left);
                left -= tokens;
                Some((who, tokens))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn decode() -> Candidate {
        Candidate { need: Need::Decode, alone: false }
    }

    const fn prefill(tokens: usize) -> Candidate {
        Candidate { need: Need::Prefill(tokens), alone: false }
    }

    const fn alone(candidate: Candidate) -> Candidate {
        Candidate { alone: true, ..candidate }
    }

    fn rides(candidates: &[Candidate], chunk: usize) -> Vec<(usize, usize)> {
        plan(candidates.iter().copied().enumerate(), chunk).collect()
    }

    fn check(candidates: &[Candidate], chunk: usize, expected: &[(usize, usize)]) {
        assert_eq!(rides(candidates, chunk), expected, "{candidates:?} in chunks of {chunk}");
    }

    #[test]
    fn every_decode_row_rides() {
        check(&[decode(), decode(), decode()], 1, &[(0, 0), (1, 0), (2, 0)]);
        check(&[prefill(100), decode(), prefill(100), decode()], 8, &[(0, 8), (1, 0), (3, 0)]);
    }

    #[test]
    fn prefills_share_one_chunk() {
        check(&[prefill(100)], 8, &[(0, 8)]);
        check(&[prefill(3), prefill(2), prefill(100), prefill(1)], 8, &[(0, 3), (1, 2), (2, 3)]);
    }

    #[test]
    fn one_that_rides_alone_waits_for_the_front() {
        check(&[alone(prefill(20)), decode()], 8, &[(0, 8)]);
        check(&[decode(), alone(decode()), decode()], 8, &[(0, 0), (2, 0)]);
    }

    #[test]
    fn nothing_comes_of_nothing() {
        check(&[], 8, &[]);
    }

    fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
        let need = prop_oneof![Just(Need::Decode), (1_usize..40).prop_map(Need::Prefill)];
        let candidate = (need, prop::bool::weighted(0.2)).prop_map(|(need, alone)| Candidate { need, alone });
        prop::collection::vec(candidate, 1..12)
    }

    proptest! {
        /// Whoever rides goes to the back: then everyone has ridden after as many runs as there are.
        #[test]
        fn nobody_starves(mut candidates in candidates(), chunk in 1_usize..16) {
            let count = candidates.len();
            let mut order: Vec<usize> = (0..count).collect();
            let mut rode = vec![false; count];
            for _ in 0..count {
                let rides = rides(&candidates, chunk);
                let (mut back, mut front): (Vec<_>, Vec<_>) = (Vec::new(), Vec::new());
                for index in 0..count {
                    let rides = rides.iter().any(|(rider, _)| *rider == index);
                    rode[order[index]] |= rides;
                    if rides { &mut back } else { &mut front }.push((order[index], candidates[index]));
                }
                front.append(&mut back);
                (order, candidates) = front.into_iter().unzip();
            }
            prop_assert!(rode.iter().all(|&rode| rode), "{:?}", rode);
        }

        #[test]
        fn a_run_reads_at_most_a_chunk_and_the_front_always_rides(
            candidates in candidates(),
            chunk in 1_usize..16,
        ) {
            let rides = rides(&candidates, chunk);
            prop_assert_eq!(rides[0].0, 0);
            prop_assert!(rides.iter().map(|(_, tokens)| tokens).sum::<usize>() <= chunk);
            prop_assert!(rides.len() == 1 || rides.iter().all(|(rider, _)| !candidates[*rider].alone));
        }
    }
}
