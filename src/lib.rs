//! The kube-bind backend as a library: see the module docs of each folder.

pub mod api;
pub mod app;
pub mod cli;
pub mod consumer;
pub mod controllers;
pub mod init;
pub mod kinds;
pub mod manifests;
pub mod onboarding;
pub mod providers;
pub mod runtime;
