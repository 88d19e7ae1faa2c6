//! Helpers that make decoding as lenient as Go's `encoding/json`.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Deserializer};

/// Decodes `null` as the default value, as Go does; combine it with `#[serde(default)]` for an
/// absent field.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Decodes a time that a consumer may write: one that the API server lets pass but that means nothing,
/// such as an offset of 99 hours, must not make the object unreadable. It counts as absent.
pub(crate) fn time_or_none<'de, D>(deserializer: D) -> Result<Option<Time>, D::Error>
where
    D: Deserializer<'de>,
{
    let text = Option::<Cow<'de, str>>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()).map(Time))
}

/// The same where there must be one; the beginning of time stands for one that means nothing.
pub(crate) fn time_or_epoch<'de, D>(deserializer: D) -> Result<Time, D::Error>
where
    D: Deserializer<'de>,
{
    Ok(time_or_none(deserializer)?.unwrap_or(Time(jiff::Timestamp::UNIX_EPOCH)))
}

/// True for the zero that Go omits.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_zero(value: &i32) -> bool {
    *value == 0
}

/// True for the `false` that Go omits.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
pub(crate) fn is_false(value: &bool) -> bool {
    !*value
}

/// True for the list that Go omits.
pub(crate) fn is_empty<T>(list: &Arc<[T]>) -> bool {
    list.is_empty()
}

/// Defines a string enum that keeps values it does not know.
///
/// Status fields are written by several programs in several versions; a value from the future must
/// not make the object unreadable, and must survive being written back.
macro_rules! open_string_enum {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $text:literal, )+
        }
        schema = $schema:tt
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $( $(#[$variant_meta])* $variant, )+
            /// A value this version does not know, kept as it came.
            Other(String),
        }

        impl $name {
            /// The value on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => $text, )+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                match text {
                    $( $text => Self::$variant, )+
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize<'de>>::deserialize(deserializer)?;
                Ok(Self::from(text.as_ref()))
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::api::wire::open_string_enum!(@schema $schema $($text),+)
            }
        }
    };
    // The API server refuses other values.
    (@schema enumerated $($text:literal),+) => {
        schemars::json_schema!({ "type": "string", "enum": [$($text),+] })
    };
    // The API server accepts any string.
    (@schema string $($text:literal),+) => {
        schemars::json_schema!({ "type": "string" })
    };
}

pub(crate) use open_string_enum;

#[cfg(test)]
mod tests {
    use crate::api::v1alpha2::ClusterBindingStatus;

    #[test]
    fn a_time_without_meaning_does_not_make_an_object_unreadable() {
        let status: ClusterBindingStatus = serde_json::from_value(serde_json::json!({
            "lastHeartbeatTime": "2026-01-01T00:00:00+99:99",
            "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00+99:99"},
            ],
        }))
        .unwrap();
        assert_eq!(status.last_heartbeat_time, None);
        assert_eq!(status.conditions[0].last_transition_time.0, jiff::Timestamp::UNIX_EPOCH);
    }
}
