pub(super) mod pki;
