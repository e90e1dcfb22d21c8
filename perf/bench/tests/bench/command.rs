//! The output of `gvm-bench`: the end of a run, and a benchmark that cannot run here.

use std::process::{Command, Output};

fn bench(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gvm-bench"));
    command.args(arguments).env_remove("GVM_TESTS").envs(environment.iter().copied());
    command.output().expect("the benchmarks run")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn what_cannot_run_here_is_skipped_or_fails_where_it_must_run() {
    // Without the plugin there is no DPDK, on any machine and for any user.
    let nowhere = ("GVM_DP_PLUGIN_DIR", "/nowhere");
    let skipped = bench(&["dpdk", "--quick"], &[nowhere]);
    let text = said(&skipped);
    assert!(skipped.status.success() && text.starts_with("SKIPPED dpdk: ") && text.contains("/nowhere"), "{text}");
    let failed = bench(&["dpdk", "--quick"], &[nowhere, ("GVM_TESTS", "require")]);
    let text = said(&failed);
    assert_eq!(failed.status.code(), Some(1), "{text}");
    assert!(text.contains("GVM_TESTS=require, but dpdk cannot run here") && text.contains("/nowhere"), "{text}");
}

#[test]
fn a_run_ends_with_its_conditions_and_its_figure() {
    let folder = std::env::temp_dir().join(format!("gvm-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (json, svg) = (folder.join("tradeoff.json"), folder.join("tradeoff.svg"));
    let arguments = ["tradeoff", "--quick", "--json", json.to_str().unwrap(), "--svg", svg.to_str().unwrap()];
    let output = bench(&arguments, &[]);
    let text = said(&output);
    let written = std::fs::read(&json).map(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).unwrap());
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(output.status.success(), "{text}");
    let lines: Vec<_> = text.lines().rev().take(4).collect();
    let starts = ["name=tradeoff-quick value=", "ratios: median ", "conditions: ", "machine: "];
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{text}");
    }
    let json = written.expect("a file was asked for");
    assert_eq!((&json["name"], &json["quick"]), (&"tradeoff".into(), &true.into()));
    assert!(
        json["machine"]["cores"].as_u64() > Some(0) && json["conditions"]["seconds"].as_f64() > Some(0.0),
        "{json}"
    );
    assert!(json["ratios"]["rounds"] == 1 && json["ratios"]["median"] == json["ratio"], "{json}");
}

#[test]
fn what_failed_is_an_error_that_names_the_benchmark() {
    let failed = bench(&["failover", "--quick", "--binaries", "/nowhere", "--script", "/nowhere/failover.sh"], &[]);
    let text = said(&failed);
    assert_eq!(failed.status.code(), Some(1), "{text}");
    assert!(text.contains("failover") && text.contains("cannot run /nowhere/failover.sh"), "{text}");
}
