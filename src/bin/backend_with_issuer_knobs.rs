//! The backend as it is tested with an identity provider that does wrong: its embedded issuer takes orders (feature
//! `issuer-knobs`). Never part of an image.

#[path = "../main.rs"]
mod backend;

fn main() -> std::process::ExitCode {
    backend::main()
}
