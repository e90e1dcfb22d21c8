//! The control socket, held against `openapi.json`: every route is described, every description is of a route, and what
//! real processes answer is as described, errors too.

use crate::harness::{Place, Process, text, until};
use crate::master::Master;
use crate::schema::Checker;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// One request by hand, so that nothing of gvm-dp's own client is between. Returns the status and the body.
pub(crate) fn request(place: &Place, name: &str, method: &str, path: &str, body: Option<&str>) -> (u16, Value) {
    let mut stream = UnixStream::connect(place.directory.join(format!("{name}.sock"))).unwrap();
    let body = body.unwrap_or("");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: \
         {}\r\n",
        body.len()
    );
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = text(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.to_lowercase().contains("content-type: application/json"), "{head}");
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

fn document() -> Value {
    serde_json::from_str(api::OPENAPI).unwrap()
}

/// `METHOD PATH` of all that is described.
fn described(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap();
    let operations = |(path, operations): (&String, &Value)| {
        let methods: Vec<_> = operations.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        methods.into_iter().map(|method| format!("{method} {path}")).collect::<Vec<_>>()
    };
    paths.iter().flat_map(operations).collect()
}

/// Asks, and holds the request's body and the answer against the description; returns the status and the answer.
pub(crate) fn ask(place: &Place, name: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let document = document();
    let checker = Checker { document: &document };
    let operation = &document["paths"][path][method.to_lowercase()];
    let sent = body.map(Value::to_string);
    let (status, answer) = request(place, name, method, path, sent.as_deref());
    if let (Some(body), 200) = (body, status) {
        let wrong = checker.check(&operation["requestBody"]["content"]["application/json"]["schema"], body);
        assert!(wrong.is_empty(), "{method} {path} took what is not described: {wrong:#?}");
    }
    let responses = &operation["responses"];
    let response = checker.resolve(responses.get(status.to_string()).unwrap_or(&responses["default"]));
    let wrong = checker.check(&response["content"]["application/json"]["schema"], &answer);
    assert!(wrong.is_empty(), "{method} {path} answers {status} with {answer}: {wrong:#?}");
    (status, answer)
}

#[test]
fn every_route_is_described_and_every_description_is_of_a_route() {
    let served: BTreeSet<_> =
        serve::router::routes().iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(served, described(&document()));
}

#[test]
fn every_operation_answers_errors_uniformly_and_has_a_name_of_its_own() {
    let document = document();
    let mut names = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            assert_eq!(operation["responses"]["default"]["$ref"], "#/components/responses/Error", "{method} {path}");
            assert!(operation["summary"].as_str().is_some_and(|summary| summary.ends_with('.')), "{method} {path}");
            assert!(names.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
        }
    }
    let codes: Vec<Value> = api::error::Code::ALL.iter().map(|code| serde_json::to_value(code).unwrap()).collect();
    assert_eq!(document["components"]["schemas"]["Error"]["properties"]["code"]["enum"], Value::from(codes));
}

/// A gateway with a master and a farm with traffic behind it, so that answers have something in them.
fn cluster(place: &Place) -> (Vec<Process>, Master) {
    let (gateway, address) = place.gateway(&[]);
    let master = Master::register(7, address);
    let farm = place.slave(address, 0, &["--count", "4", "--name", "farm", "--traffic", "master=7,records=100"]);
    place.until_registered("gateway", 4);
    until("records", || (place.stats("gateway")["directions"]["up"]["records_out"].as_u64() > Some(0)).then_some(()));
    (vec![gateway, farm], master)
}

#[test]
fn what_is_read_is_as_described() {
    let place = Place::new();
    let (_processes, _master) = cluster(&place);
    let document = document();
    let reads: Vec<&String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, o)| o.get("get").is_some())
        .map(|(path, _)| path)
        .collect();
    assert!(reads.len() >= 3);
    for name in ["gateway", "farm"] {
        for path in &reads {
            let (status, answer) = ask(&place, name, "GET", path, None);
            let has_no_routes = name == "farm" && *path == "/v1/routes";
            assert_eq!(status, if has_no_routes { 404 } else { 200 }, "{name} {path}: {answer}");
            if has_no_routes {
                assert_eq!(answer["code"], "wrong_role");
            }
        }
    }
    let (_, answer) = ask(&place, "gateway", "GET", "/v1/openapi.json", None);
    assert_eq!(answer, document);
}

#[test]
fn what_is_not_there_is_a_uniform_error() {
    let place = Place::new();
    let (_gateway, _) = place.gateway(&[]);
    let document = document();
    let checker = Checker { document: &document };
    for (method, path, status, code) in [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v2/stats", 404, "not_found"),
        ("DELETE", "/v1/stats", 405, "method_not_allowed"),
        ("GET", "/v1/drain", 405, "method_not_allowed"),
    ] {
        let (answered, error) = request(&place, "gateway", method, path, None);
        assert_eq!((answered, &error["code"]), (status, &json!(code)), "{method} {path}: {error}");
        assert!(checker.check(&document["components"]["schemas"]["Error"], &error).is_empty(), "{error}");
        assert!(error["remedy"].as_str().unwrap().contains("/v1/openapi.json"), "{error}");
    }
}

#[test]
fn a_drain_over_the_socket_is_as_described() {
    let place = Place::new();
    let (gateway, _) = place.gateway(&[]);
    let (status, answer) = ask(&place, "gateway", "POST", "/v1/drain", None);
    assert_eq!((status, &answer["state"]), (200, &json!("draining")));
    assert_eq!(gateway.wait(), Some(0));
}
