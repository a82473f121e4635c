//! Where traces are sent, as OpenTelemetry's variables say it. Pure.

use axum::http::{Uri, uri::Authority};

use super::TracesError;

/// For traces alone: the whole address.
const OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

/// For all that is sent: that of the collector.
const OF_ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Where a collector is, and takes traces, unless somebody says otherwise.
const COLLECTOR: &str = "http://localhost:4318";
const PATH: &str = "v1/traces";

/// Which protocol; for traces alone, and for all that is sent.
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const PROTOCOL: &str = "http/protobuf";

/// The address. `said`: what a variable says.
///
/// # Errors
/// It is none, or another protocol is asked for.
pub(super) fn of(said: impl Fn(&str) -> Option<String>) -> Result<String, TracesError> {
    let protocol = PROTOCOLS.into_iter().find_map(|from| Some((from, said(from)?)));
    if let Some((from, found)) = protocol.filter(|(_, found)| found != PROTOCOL) {
        return Err(TracesError::Protocol { from, found });
    }
    if let Some(address) = said(OF_TRACES) {
        return checked(OF_TRACES, &address).map(str::to_owned);
    }
    let collector = said(OF_ALL).unwrap_or_else(|| COLLECTOR.to_owned());
    let collector = checked(OF_ALL, &collector)?.trim_end_matches('/');
    Ok(format!("{collector}/{PATH}"))
}

/// An address to which plain HTTP can be spoken. `from`: who says it. A user in it would not be sent to the collector.
///
/// # Errors
/// It is none.
pub(super) fn checked<'a>(from: &'static str, address: &'a str) -> Result<&'a str, TracesError> {
    let named = |authority: &Authority| !authority.host().is_empty() && !authority.as_str().contains('@');
    let plain = |uri: Uri| uri.scheme_str() == Some("http") && uri.authority().is_some_and(named);
    match address.parse().is_ok_and(plain) {
        true => Ok(address),
        false => Err(TracesError::Endpoint { from, found: address.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What these variables lead to.
    fn address(said: &[(&str, &str)]) -> Result<String, String> {
        let value = |name: &str| said.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        of(value).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_is_that_of_the_collector_or_of_traces_alone() {
        let ok = |said: &[(&str, &str)]| address(said).unwrap_or_default();
        assert_eq!(ok(&[]), "http://localhost:4318/v1/traces");
        assert_eq!(ok(&[(OF_ALL, "http://c:1")]), "http://c:1/v1/traces");
        assert_eq!(ok(&[(OF_ALL, "http://[::1]:1/in/")]), "http://[::1]:1/in/v1/traces");
        assert_eq!(ok(&[(OF_ALL, "http://c:1"), (OF_TRACES, "http://t/x")]), "http://t/x");
        assert_eq!(ok(&[(PROTOCOLS[1], PROTOCOL)]), "http://localhost:4318/v1/traces");
    }

    #[test]
    fn what_is_not_spoken_is_told_by_its_variable() {
        for address_of in [OF_ALL, OF_TRACES] {
            for none in
                ["localhost:4318", "https://c:4318", "http://", "grpc://c", "http://a:b@c:1", "a b", "/v1/traces"]
            {
                let told = address(&[(address_of, none)]).expect_err(none);
                assert!(told.contains(address_of) && told.contains(&format!("{none:?}")), "{told}");
            }
        }
        let told = address(&[(PROTOCOLS[0], "grpc"), (PROTOCOLS[1], PROTOCOL)]).expect_err("grpc");
        assert!(told.contains(PROTOCOLS[0]) && told.contains("grpc"), "{told}");
    }
}
