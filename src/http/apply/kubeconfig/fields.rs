//! Which fields a kubeconfig may have, and what is said of the others.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::Error;

/// A part of the file with a fixed set of fields.
pub(super) trait Section {
    /// What it is called in messages.
    const PLACE: &'static str;
    /// The fields that are read.
    const READ: &'static [&'static str];
    /// The fields without effect on us that may be there.
    const IGNORED: &'static [&'static str];
    /// The fields that are known and refused, with advice.
    const REFUSED: &'static [(&'static str, &'static str)];
    /// [`Self::READ`] for people.
    const ALLOWED: &'static str;
}

const NO_FILE: &str = "the backend opens no files of its own host for you; embed the content, as \
     this does: kubectl config view --raw --flatten --minify";
const NO_PROGRAM: &str = "the backend runs no programs and no login for you; use a token, such as \
     one from: kubectl create token";
const NO_PASSWORD: &str = "passwords are not supported; use a token or a client certificate";
const NO_IMPERSONATION: &str =
    "the backend impersonates nobody; use the credential of the user itself";

/// The cluster of the current context.
pub(super) struct ClusterSection;

impl Section for ClusterSection {
    const PLACE: &'static str = "cluster";
    const READ: &'static [&'static str] = &["server", "certificate-authority-data"];
    // Notes of tools, and a setting that only saves bandwidth.
    const IGNORED: &'static [&'static str] = &["extensions", "disable-compression"];
    const REFUSED: &'static [(&'static str, &'static str)] = &[
        ("certificate-authority", NO_FILE),
        (
            "insecure-skip-tls-verify",
            "the certificate of the server is always checked; remove the field and add \
             certificate-authority-data",
        ),
        (
            "proxy-url",
            "the backend uses no proxies; remove the field and name a server that the backend \
             reaches directly",
        ),
        (
            "tls-server-name",
            "the certificate must be for the host of the server; remove the field and name the \
             server by a host in its certificate",
        ),
    ];
    const ALLOWED: &'static str = "server and certificate-authority-data";
}

/// The user of the current context.
pub(super) struct UserSection;

impl Section for UserSection {
    const PLACE: &'static str = "user";
    const READ: &'static [&'static str] = &["token", "client-certificate-data", "client-key-data"];
    const IGNORED: &'static [&'static str] = &["extensions"];
    const REFUSED: &'static [(&'static str, &'static str)] = &[
        ("exec", NO_PROGRAM),
        ("auth-provider", NO_PROGRAM),
        ("tokenFile", NO_FILE),
        ("client-certificate", NO_FILE),
        ("client-key", NO_FILE),
        ("username", NO_PASSWORD),
        ("password", NO_PASSWORD),
        ("as", NO_IMPERSONATION),
        ("as-uid", NO_IMPERSONATION),
        ("as-groups", NO_IMPERSONATION),
        ("as-user-extra", NO_IMPERSONATION),
        ("impersonate", NO_IMPERSONATION),
        ("impersonate-groups", NO_IMPERSONATION),
        ("impersonate-user-extra", NO_IMPERSONATION),
    ];
    const ALLOWED: &'static str = "token, client-certificate-data and client-key-data";
}

/// The fields of a section: values of those that are read, in their order, and what is wrong with
/// the others. Whether that matters is decided when the current context is known.
pub(super) struct Fields<S> {
    values: Vec<Option<Zeroizing<String>>>,
    wrong: Option<Error>,
    section: PhantomData<S>,
}

impl<S: Section> Fields<S> {
    /// The values, unless a field is not allowed. An empty value counts as none.
    pub(super) fn checked(self) -> Result<impl Iterator<Item = Option<Zeroizing<String>>>, Error> {
        match self.wrong {
            Some(error) => Err(error),
            None => Ok(self.values.into_iter().map(|value| value.filter(|text| !text.is_empty()))),
        }
    }
}

fn not_allowed<S: Section>(name: &str) -> Option<Error> {
    if S::IGNORED.contains(&name) {
        return None;
    }
    if let Some((field, advice)) = S::REFUSED.iter().find(|(field, _)| *field == name) {
        return Some(Error::Field { place: S::PLACE, field, advice });
    }
    // What is long or has digits may be a credential in the wrong place.
    let is_name =
        name.len() <= 32 && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-');
    let field = if is_name { name } else { "(not shown)" }.to_owned();
    Some(Error::UnknownField { place: S::PLACE, field, allowed: S::ALLOWED })
}

impl<'de, S: Section> Deserialize<'de> for Fields<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<S>(PhantomData<S>);

        impl<'de, S: Section> Visitor<'de> for Read<S> {
            type Value = Fields<S>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(S::PLACE)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut values: Vec<Option<Zeroizing<String>>> = Vec::new();
                values.resize_with(S::READ.len(), || None);
                let mut wrong = None;
                while let Some(name) = map.next_key::<String>()? {
                    let place = S::READ.iter().position(|field| *field == name);
                    if let Some(slot) = place.and_then(|place| values.get_mut(place)) {
                        *slot = map.next_value::<Option<String>>()?.map(Zeroizing::new);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                        wrong = wrong.or_else(|| not_allowed::<S>(&name));
                    }
                }
                Ok(Fields { values, wrong, section: PhantomData })
            }
        }

        deserializer.deserialize_map(Read(PhantomData))
    }
}
