//! A real Chromium, step by step (`e2e/web/browser.mjs`).

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Program;
use crate::{dirs, stack, tools};

/// How a browser starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Width of the view in CSS pixels.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// What the user prefers.
    pub dark: bool,
    /// Take any certificate.
    pub ignore_https_errors: bool,
}

impl Default for Options {
    /// A laptop, in light colours, that checks certificates.
    fn default() -> Self {
        Self { width: 1280, height: 800, dark: false, ignore_https_errors: false }
    }
}

/// Something that a user can operate, as assistive technology gets it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Control {
    /// Its ARIA role.
    pub role: String,
    /// Its accessible name; empty if it has none, which is a defect.
    pub name: String,
    /// What is said after the name.
    pub description: String,
    /// Cannot be operated now.
    pub disabled: bool,
}

/// What has the keyboard focus.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Focus {
    /// Its element: `button`.
    pub tag: String,
    /// Its `id`, or empty.
    pub id: String,
    /// Its label or text.
    pub name: String,
    /// The width of the outline in CSS pixels; 0 if there is none.
    pub outline: f64,
}

/// What went wrong in a page.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// `violation` of the content security policy, `exception`, `network` (an answer of 400 and more, or none), or
    /// `console` (another error there).
    pub kind: String,
    /// What and where.
    pub text: String,
}

/// A browser with one page and a profile of its own. Dropping it kills the process.
/// A test that succeeds calls [`Browser::stop`]: what was killed may still write to its profile when the run tidies up.
///
/// Roles are ARIA roles; names are accessible names and match exactly. Every step waits for what it needs, 20 s at most.
#[derive(Debug)]
pub struct Browser {
    program: Program,
}

impl Browser {
    /// Starts one. `name` names its log and the folder of its profile, with a number added.
    pub async fn start(name: &str, options: Options) -> Result<Self> {
        let name = stack::unique(name);
        let first = json!({
            "profile": dirs::fresh(&format!("{name}-profile"))?,
            "width": options.width,
            "height": options.height,
            "colorScheme": if options.dark { "dark" } else { "light" },
            "ignoreHTTPSErrors": options.ignore_https_errors,
        });
        let env = [("CHROMIUM", tools::path("chromium")?)];
        let (program, _version) = Program::start(&name, "browser.mjs", &env, &first).await?;
        Ok(Self { program })
    }

    /// Closes it.
    pub async fn stop(&mut self) -> Result<()> {
        self.program.stop().await
    }

    /// Opens a page; the status of the answer, or none where there was no HTTP.
    pub async fn goto(&mut self, url: &str) -> Result<Option<u16>> {
        #[derive(Deserialize)]
        struct Answer {
            status: Option<u16>,
        }
        let answer: Answer = self.step("goto", json!({"url": url})).await?;
        Ok(answer.status)
    }

    /// Loads the page again.
    pub async fn reload(&mut self) -> Result<()> {
        self.step("reload", json!({})).await
    }

    /// Clicks the element of this role and name.
    pub async fn click(&mut self, role: &str, name: &str) -> Result<()> {
        self.step("click", json!({"role": role, "name": name})).await
    }

    /// Puts a text into the field with this label.
    pub async fn fill(&mut self, label: &str, text: &str) -> Result<()> {
        self.step("fill", json!({"label": label, "text": text})).await
    }

    /// Chooses an option of the list with this label.
    pub async fn select(&mut self, label: &str, option: &str) -> Result<()> {
        self.step("select", json!({"label": label, "option": option})).await
    }

    /// What stands in the field with this label.
    pub async fn value(&mut self, label: &str) -> Result<String> {
        self.step("value", json!({"label": label})).await
    }

    /// Presses a key: `Tab`, `Enter`, `Shift+Tab`.
    pub async fn press(&mut self, key: &str) -> Result<()> {
        self.step("press", json!({"key": key})).await
    }

    /// Waits until a text is to be seen, whatever is around it.
    pub async fn wait_for_text(&mut self, text: &str) -> Result<()> {
        self.step("waitForText", json!({"text": text})).await
    }

    /// Waits until the element of this role and name is to be seen.
    pub async fn wait_for(&mut self, role: &str, name: &str) -> Result<()> {
        self.step("waitForRole", json!({"role": role, "name": name})).await
    }

    /// Waits until the address starts with this; the address.
    pub async fn wait_for_url(&mut self, prefix: &str) -> Result<String> {
        self.step("waitForUrl", json!({"prefix": prefix})).await
    }

    /// The address.
    pub async fn url(&mut self) -> Result<String> {
        self.step("url", json!({})).await
    }

    /// The title.
    pub async fn title(&mut self) -> Result<String> {
        self.step("title", json!({})).await
    }

    /// The text to be seen on the page.
    pub async fn text(&mut self) -> Result<String> {
        self.step("text", json!({})).await
    }

    /// All cookies with their attributes: name, value, domain, path, expires (seconds since 1970, -1 for the end of the
    /// browser's session), httpOnly, secure, sameSite.
    pub async fn cookies(&mut self) -> Result<Vec<Value>> {
        self.step("cookies", json!({})).await
    }

    /// Forgets all cookies.
    pub async fn clear_cookies(&mut self) -> Result<()> {
        self.step("clearCookies", json!({})).await
    }

    /// Changes the view, in CSS pixels.
    pub async fn resize(&mut self, width: u32, height: u32) -> Result<()> {
        self.step("resize", json!({"width": width, "height": height})).await
    }

    /// By how many CSS pixels the page is wider than its view.
    pub async fn overflow(&mut self) -> Result<u32> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Size {
            client_width: u32,
            scroll_width: u32,
        }
        let size: Size = self.step("size", json!({})).await?;
        Ok(size.scroll_width.saturating_sub(size.client_width))
    }

    /// Writes the whole page as PNG.
    pub async fn screenshot(&mut self, path: &Path) -> Result<()> {
        self.step("screenshot", json!({"path": path})).await
    }

    /// Clicks the element of this role and name, and writes what is saved by that to `path`; the name that it was given.
    pub async fn download(&mut self, role: &str, name: &str, path: &Path) -> Result<String> {
        self.step("download", json!({"role": role, "name": name, "path": path})).await
    }

    /// All that can be operated, with the names that Chromium computes.
    pub async fn controls(&mut self) -> Result<Vec<Control>> {
        self.step("controls", json!({})).await
    }

    /// The page as assistive technology gets it, as YAML.
    pub async fn aria_snapshot(&mut self) -> Result<String> {
        self.step("ariaSnapshot", json!({})).await
    }

    /// What has the keyboard focus, if anything has.
    pub async fn focus(&mut self) -> Result<Option<Focus>> {
        self.step("focus", json!({})).await
    }

    /// What went wrong since this was asked last.
    pub async fn problems(&mut self) -> Result<Vec<Problem>> {
        self.step("problems", json!({})).await
    }

    async fn step<T: DeserializeOwned>(&mut self, step: &str, mut question: Value) -> Result<T> {
        question["step"] = json!(step);
        let mut answer = self.program.ask(&question).await?;
        if let Some(error) = answer["error"].as_str() {
            return Err(self.program.fail(error));
        }
        serde_json::from_value(answer["value"].take())
            .with_context(|| format!("the answer to the step {step}"))
    }
}
