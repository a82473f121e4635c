//! Memory that is kept from one use to the next, for whoever does the same many times a second.

/// The memory of a vector for elements of another type, which differs in lifetimes only: what borrows
/// from one run cannot be kept until the next, but the room it took can.
///
/// The standard library collects in place where sizes agree. It does not promise to; without, this is
/// an empty vector, and nothing but an allocation is lost.
pub fn emptied<From, To>(mut vec: Vec<From>) -> Vec<To> {
    vec.clear();
    vec.into_iter().filter_map(|_| None).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_stays() {
        let mut kept: Vec<&'static str> = Vec::with_capacity(100);
        for text in [String::from("a"), String::from("b")] {
            let mut used = emptied::<_, &str>(kept);
            assert!(used.is_empty() && used.capacity() >= 100);
            used.push(&text);
            kept = emptied(used);
        }
        assert!(kept.capacity() >= 100);
    }
}
