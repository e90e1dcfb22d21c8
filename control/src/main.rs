//! gvm-dp: the dataplane of GiantVM Frontier-X. See the library `control`.

fn main() -> std::process::ExitCode {
    control::main()
}
