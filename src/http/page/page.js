// The page: log in, see what is on offer, bind, log out (contract http.md 4.4 and 4.5).
//
// Keeps nothing but the parameters it was opened with, in this tab, over the way to the identity provider and back.
// Shows text as text only: nothing that came from a server becomes markup. No credential is shown or logged.

const KEPT = ["cluster_id", "session_id", "consumer_id", "redirect_url"];
const STORE = "kube-bind-parameters";
// What the backend may take for a bind (60 s) and the way there and back.
const PATIENCE = 70_000;
// Where `kubectl bind` listens; the response that goes there holds a credential. The backend checks it too.
const KUBECTL = /^http:\/\/(127\.0\.0\.1|\[::1\]):[1-9][0-9]*\/callback$/;

const $ = (id) => document.getElementById(id);

/** What was kept before a login, or nothing. */
function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(STORE)) ?? {};
  } catch {
    // Storage may be off or hold nothing of ours: the page works without.
    return {};
  }
}

const before = kept();
// Back from the login that was kept, and not from one that was given up.
const cameBack = before.login !== undefined && new URLSearchParams(location.search).get("session_id") === before.login;

/** The parameters of this page; those from before the login where it came back from there. */
function parameters() {
  const here = new URLSearchParams(location.search);
  const found = {};
  for (const name of KEPT) {
    const value = here.get(name) ?? (cameBack ? before[name] : null);
    if (typeof value === "string" && value !== "") found[name] = value;
  }
  if (!KUBECTL.test(found.redirect_url ?? "")) delete found.redirect_url;
  return found;
}

const given = parameters();
// In the address they outlast a reload.
if (cameBack) history.replaceState(null, "", `${location.pathname}${query(...KEPT)}`);

/** Remembers the parameters over the login with this id. */
function keep(login) {
  try {
    sessionStorage.setItem(STORE, JSON.stringify({ ...given, login }));
  } catch {
    // As above.
  }
}

function query(...names) {
  const search = new URLSearchParams();
  for (const name of names) if (given[name]) search.set(name, given[name]);
  const text = search.toString();
  return text === "" ? "" : `?${text}`;
}

/** An answer that says what is wrong. */
class Refused extends Error {
  constructor(code, message, details) {
    super(message);
    this.code = code;
    this.details = details;
  }
}

async function call(path, body) {
  const init = { cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE) };
  if (body !== undefined) {
    init.method = "POST";
    init.headers = { "Content-Type": "application/json" };
    init.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(`./api/${path}`, init);
  } catch {
    throw new Refused("UNREACHABLE", "The provider did not answer.", "Check the network and try again.");
  }
  const isJson = (response.headers.get("Content-Type") ?? "").startsWith("application/json");
  const answer = isJson ? await response.json().catch(() => null) : await response.text();
  if (response.ok && answer !== null) return answer;
  if (answer?.kind === "Error") throw new Refused(answer.code, answer.message, answer.details ?? "");
  throw new Refused("UNREADABLE", `The provider answered with status ${response.status}.`, "Try again in a moment.");
}

function show(section) {
  for (const name of ["login", "catalogue", "result"]) $(name).hidden = name !== section;
  $("logout").hidden = section === "login" || section === null;
}

function say(text) {
  $("status").textContent = text;
}

/** Where a click has hidden what had the focus, the keyboard goes on from here. */
function goOn(heading) {
  $(heading).focus();
}

function complain(problem) {
  const place = $("problem");
  place.replaceChildren();
  place.hidden = problem === null;
  if (problem === null) return;
  for (const text of [problem.message, problem.details]) {
    if (!text) continue;
    const line = document.createElement("p");
    line.textContent = text;
    place.append(line);
  }
  place.scrollIntoView({ block: "nearest" });
}

/** Shows what went wrong; without a session there is only one thing to do. */
function failed(problem) {
  if (problem.code === "AUTHENTICATION_FAILED") {
    offerLogin();
    return;
  }
  // There is a session, of somebody who may do nothing here: another user may.
  if (problem.code === "AUTHORIZATION_FAILED") $("logout").hidden = false;
  say("");
  complain(problem);
}

/** An id for a login. `crypto.randomUUID` is not there over plain HTTP. */
function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function offerLogin() {
  const id = given.session_id ?? newId();
  const here = `${location.origin}${location.pathname}`;
  const search = new URLSearchParams({
    session_id: id,
    redirect_url: here,
    cluster_id: given.cluster_id ?? "",
    client_type: "ui",
  });
  if (given.consumer_id) search.set("consumer_id", given.consumer_id);
  const link = $("login-link");
  link.href = `./api/authorize?${search}`;
  link.onclick = () => keep(id);
  show("login");
  complain(null);
  say("You are not logged in.");
}

function resourceText(resource) {
  const group = resource.group ? `.${resource.group}` : "";
  const versions = (resource.versions ?? []).join(", ");
  return `${resource.resource}${group}${versions ? ` (${versions})` : ""}`;
}

/** A name for a binding: that of the template, as far as it is a DNS label. */
function suggested(name) {
  return name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").slice(0, 63).replaceAll(/^-|-$/g, "");
}

function card(template) {
  const item = $("template-card").content.firstElementChild.cloneNode(true);
  const name = template.metadata.name;
  item.dataset.template = name;
  item.querySelector("h3").textContent = name;
  const description = item.querySelector(".description");
  description.textContent = template.spec.description ?? "";
  description.hidden = description.textContent === "";
  item.querySelector(".resources").textContent = (template.spec.resources ?? []).map(resourceText).join("; ");
  const claims = (template.spec.permissionClaims ?? []).map(resourceText).join("; ");
  item.querySelector(".claims").textContent = claims;
  item.querySelector(".claims").hidden = claims === "";
  item.querySelector(".claims-title").hidden = claims === "";
  const form = item.querySelector("form");
  form.elements.name.value = suggested(name);
  form.elements.name.setAttribute("aria-label", `Name of the binding of ${name}`);
  form.querySelector("button").setAttribute("aria-label", `Bind ${name}`);
  form.onsubmit = (event) => {
    event.preventDefault();
    bind(form, name);
  };
  return item;
}

function list(templates, collections) {
  const choice = $("collection");
  choice.length = 1;
  for (const collection of collections) choice.add(new Option(collection.metadata.name));
  $("filter-row").hidden = collections.length === 0;
  const fill = () => {
    const chosen = collections.find((collection) => collection.metadata.name === choice.value);
    const names = chosen && new Set((chosen.spec.templates ?? []).map((template) => template.name));
    const shown = templates.filter((template) => !names || names.has(template.metadata.name));
    const text = $("collection-text");
    text.textContent = chosen?.spec.description ?? "";
    text.hidden = text.textContent === "";
    $("templates").replaceChildren(...shown.map(card));
    $("nothing").hidden = shown.length > 0;
    say(shown.length === 1 ? "1 API." : `${shown.length} APIs.`);
  };
  choice.onchange = fill;
  fill();
}

async function catalogue() {
  complain(null);
  say("Loading what is on offer.");
  const search = query("cluster_id", "consumer_id");
  const [templates, collections] = await Promise.all([call(`templates${search}`), call(`collections${search}`)]);
  show("catalogue");
  list(templates.items ?? [], collections.items ?? []);
}

let binding = false;

async function bind(form, template) {
  if (binding) return;
  binding = true;
  const button = form.querySelector("button");
  const name = form.elements.name.value;
  complain(null);
  say(`Binding ${name}. This takes a few seconds.`);
  // Not `disabled`, which would take the focus away.
  button.setAttribute("aria-disabled", "true");
  button.textContent = "Binding";
  try {
    const body = {
      metadata: { name },
      spec: {
        templateRef: { name: template },
        clusterIdentity: { identity: given.consumer_id ?? "ui-identity" },
        author: "web-ui",
      },
    };
    finish(await call(`bind${query("cluster_id", "consumer_id")}`, body));
  } catch (problem) {
    failed(problem);
    if (problem.code === "AUTHENTICATION_FAILED") goOn("login-title");
  } finally {
    binding = false;
    button.removeAttribute("aria-disabled");
    button.textContent = "Bind";
  }
}

/** The response as base64 of its UTF-8, in the alphabet for URLs: that is what `kubectl bind` decodes. */
function encoded(response) {
  const bytes = new TextEncoder().encode(JSON.stringify(response));
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_");
}

/** What makes a konnector sync the binding: the credential, and a bundle that names it. */
function manifest(response) {
  const name = response.bindingName ?? response.requests[0].metadata.name;
  const secret = `kubeconfig-${name}`;
  return {
    apiVersion: "v1",
    kind: "List",
    items: [
      {
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: secret, namespace: "kube-bind" },
        type: "Opaque",
        data: { kubeconfig: response.kubeconfig },
      },
      {
        apiVersion: response.apiVersion,
        kind: "APIServiceBindingBundle",
        metadata: { name },
        spec: { kubeconfigSecretRef: { name: secret, key: "kubeconfig", namespace: "kube-bind" } },
      },
    ],
  };
}

function finish(response) {
  // `kubectl bind` waits on this machine.
  if (given.redirect_url) {
    const back = new URL(given.redirect_url);
    if (given.session_id) back.searchParams.set("session_id", given.session_id);
    if (given.consumer_id) back.searchParams.set("consumer_id", given.consumer_id);
    back.searchParams.set("binding_response", encoded(response));
    say("Bound. Going back to kubectl bind.");
    location.assign(back);
    return;
  }
  const file = new Blob([JSON.stringify(manifest(response), null, 2)], { type: "application/json" });
  const link = $("download");
  if (link.href.startsWith("blob:")) URL.revokeObjectURL(link.href);
  link.href = URL.createObjectURL(file);
  // The konnector brings the definition of bundles; two minutes are for pulling its image.
  $("command").textContent = [
    `kubectl apply --filename '${location.origin}/api/konnector-manifests'`,
    "kubectl wait --for=create crd/apiservicebindingbundles.kube-bind.io --timeout=120s",
    "kubectl apply --filename binding.json",
  ].join("\n");
  const resources = (response.requests ?? []).flatMap((request) => request.spec.resources ?? []);
  $("check").textContent = resources
    .map((resource) => `kubectl get ${resource.resource}${resource.group ? `.${resource.group}` : ""}`)
    .join("\n");
  show("result");
  say("Bound.");
  goOn("result-title");
}

$("copy").onclick = async () => {
  try {
    await navigator.clipboard.writeText($("command").textContent);
    say("Copied.");
  } catch {
    getSelection().selectAllChildren($("command"));
    say("Selected; copy it with the keyboard.");
  }
};

$("again").onclick = async () => {
  try {
    await catalogue();
    goOn("catalogue-title");
  } catch (problem) {
    failed(problem);
  }
};

$("logout").onclick = async () => {
  try {
    await call(`logout${query("cluster_id")}`, {});
    offerLogin();
    goOn("login-title");
  } catch (problem) {
    failed(problem);
  }
};

async function start() {
  try {
    const provider = await call("exports");
    if (provider.providerPrettyName) {
      $("provider").textContent = provider.providerPrettyName;
      document.title = `${provider.providerPrettyName}: bind an API`;
    }
    await call(`ping${query("cluster_id")}`);
    $("logout").hidden = false;
    await catalogue();
  } catch (problem) {
    // Who comes from kubectl bind wants to log in; once, so that a refusal is seen.
    const first = problem.code === "AUTHENTICATION_FAILED" && given.redirect_url !== undefined && !cameBack;
    failed(problem);
    if (first) $("login-link").click();
  }
}

start();
