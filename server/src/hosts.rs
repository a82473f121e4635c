//! By which names this server is asked, and from which pages. Pure.
//!
//! A page of a stranger's can make a browser ask whatever that browser reaches, and by a name of the stranger's that
//! resolves to this machine it could read the answers, too (DNS rebinding). So on this machine alone only this machine's
//! names are answered, and what a page of another origin sends is refused unless settings name that origin.

use std::net::{IpAddr, Ipv6Addr};

/// The names that are answered.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    /// None is refused.
    any: bool,
    named: Vec<String>,
    origins: Vec<String>,
}

impl Hosts {
    /// For a server at this address. `named`: besides those of this machine; `origins`: of pages that may ask.
    pub(crate) fn new(address: IpAddr, named: &[String], origins: &[String]) -> Self {
        let lower = |texts: &[String]| texts.iter().map(|text| text.to_ascii_lowercase()).collect();
        Self { any: !address.is_loopback() && named.is_empty(), named: lower(named), origins: lower(origins) }
    }

    /// Whether what was sent to `host`, a name with or without a port, is answered.
    pub(crate) fn answers(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let Some(name) = name(&host) else { return false };
        self.any || is_local(name) || self.named.iter().any(|named| named == name || *named == host)
    }

    /// Whether a page of `origin` may have this sent to `host`.
    pub(crate) fn takes_from(&self, origin: &str, host: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        let same = origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host));
        same || self.origins.iter().any(|known| known == "*" || *known == origin)
    }
}

/// A host's name without its port; an address of six parts keeps its brackets. `None`: that is none.
fn name(host: &str) -> Option<&str> {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let (name, port) = match (host.starts_with('['), host.find(']'), host.rfind(':')) {
        (true, Some(end), _) => (&host[..=end], &host[end + 1..]),
        (false, None, Some(at)) => (&host[..at], &host[at..]),
        (false, None, None) => (host, ""),
        _ => return None,
    };
    let fine = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    (fine && !name.is_empty()).then_some(name)
}

/// Whether this is a name of this machine that no name server answers for.
fn is_local(name: &str) -> bool {
    let six = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match six {
        Some(six) => six.parse().is_ok_and(|address: Ipv6Addr| address.is_loopback()),
        None => {
            name == "localhost"
                || name.ends_with(".localhost")
                || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    fn hosts(address: IpAddr, named: &[&str], origins: &[&str]) -> Hosts {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        Hosts::new(address, &owned(named), &owned(origins))
    }

    #[test]
    fn on_this_machine_only_its_names_are_answered() {
        let hosts = hosts(HERE, &["Brain.example"], &[]);
        for host in ["localhost", "LOCALHOST:80", "a.localhost:1", "127.0.0.1:8080", "127.9.9.9", "[::1]", "[::1]:8080"]
        {
            assert!(hosts.answers(host), "{host}");
        }
        assert!(hosts.answers("brain.example:443"));
        for host in ["", ":80", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "[::2]"]
        {
            assert!(!hosts.answers(host), "{host}");
        }
        for host in ["localhost:x", "[::1", "::1", "[::1]x", "a:1:2"] {
            assert!(!hosts.answers(host), "{host}");
        }
    }

    #[test]
    fn beyond_it_any_name_is_unless_some_are_named() {
        assert!(hosts(EVERYWHERE, &[], &[]).answers("brain.example"));
        assert!(!hosts(EVERYWHERE, &["other.example"], &[]).answers("brain.example"));
    }

    #[test]
    fn pages_of_others_are_taken_from_where_they_are_named() {
        let check = |origins: &[&str], origin: &str, taken| {
            assert_eq!(hosts(HERE, &[], origins).takes_from(origin, "localhost:8080"), taken, "{origin}");
        };
        check(&[], "http://localhost:8080", true);
        check(&[], "http://localhost:3000", false);
        check(&[], "https://evil.example", false);
        check(&[], "null", false);
        check(&["https://page.example"], "https://page.example", true);
        check(&["https://page.example"], "https://evil.example", false);
        check(&["*"], "https://evil.example", true);
    }
}
