//! gvm-dp: the dataplane of GiantVM Frontier-X. See the library `gvm_dp`.

fn main() -> std::process::ExitCode {
    gvm_dp::main()
}
