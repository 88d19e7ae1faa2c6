// An identity provider that is not ours: the certified npm package oidc-provider, with a login form and a consent form.
//
// The first line of stdin says what to serve, as JSON:
//
//   port      port on 127.0.0.1
//   clients   [{client_id, client_secret, redirect_uris, ...}]: client metadata as in OpenID Connect registration
//   accounts  {name: {email, groups, ...}}: claims by user name; whoever is not listed has those of `claimsOf`
//   alg       how ID tokens are signed: "ES256" (the default) or "RS256"
//   tls       {cert, key}: PEM files; without it plain HTTP
//
// When it serves, it prints the one line {"issuer": "http://127.0.0.1:PORT"}. It ends when stdin closes. Everything is in
// memory and the keys are new at each start, so a restart on the same port is also a change of keys.
//
// Every user name can log in, with any password but an empty one. The forms are plain HTML without scripts:
//
//   login     POST <action> login=<user name>&password=<anything>
//   consent   POST <action> decision=continue, or decision=cancel, which the client gets as access_denied

import { generateKeyPair, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { promisify } from "node:util";

import { Provider } from "oidc-provider";

import { answer, log, values } from "./lines.mjs";

/** A form has two short fields. */
const FORM_LIMIT = 16 * 1024;
const SCOPES = ["openid", "profile", "email", "offline_access", "groups"];
const KEYS = {
  ES256: ["ec", { namedCurve: "P-256" }],
  RS256: ["rsa", { modulusLength: 2048 }],
};

/** The claims of whoever is not listed. A group of the system is among them: nobody who trusts this issuer may believe it. */
function claimsOf(name) {
  return { email: `${name}@example.com`, groups: ["developers", "system:masters"] };
}

async function signingKey(alg) {
  if (!Object.hasOwn(KEYS, alg)) throw new Error(`alg must be one of ${Object.keys(KEYS).join(", ")}, not ${alg}`);
  const { privateKey } = await promisify(generateKeyPair)(...KEYS[alg]);
  return { ...privateKey.export({ format: "jwk" }), alg, use: "sig", kid: randomBytes(8).toString("hex") };
}

async function configuration({ clients, accounts = {}, alg = "ES256" }) {
  return {
    clients: clients.map((client) => ({
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      id_token_signed_response_alg: alg,
      ...client,
    })),
    jwks: { keys: [await signingKey(alg)] },
    cookies: { keys: [randomBytes(32).toString("hex")] },
    pkce: { required: () => true },
    scopes: SCOPES,
    claims: {
      openid: ["sub"],
      profile: ["name", "preferred_username"],
      email: ["email", "email_verified"],
      groups: ["groups"],
    },
    // Claims in the ID token and not at the userinfo endpoint only, as Dex, Keycloak and others do.
    conformIdTokenClaims: false,
    findAccount: (_ctx, sub) => ({
      accountId: sub,
      claims: () => ({
        sub,
        name: sub,
        preferred_username: sub,
        email_verified: true,
        ...(Object.hasOwn(accounts, sub) ? accounts[sub] : claimsOf(sub)),
      }),
    }),
    features: { devInteractions: { enabled: false } },
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    ttl: { Interaction: 600, Session: 3600, Grant: 3600, AccessToken: 3600, IdToken: 3600, RefreshToken: 3600 },
    renderError: (ctx, out, error) => {
      log(`${ctx.method} ${ctx.path}: ${error.stack ?? error}`);
      ctx.type = "html";
      ctx.body = document(out.error, `<p role="alert">${escaped(out.error_description ?? "")}</p>`);
    },
  };
}

function escaped(text) {
  return String(text).replace(/[&<>"']/g, (sign) => `&#${sign.codePointAt(0)};`);
}

function document(title, body) {
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${escaped(title)}</title></head>
<body><h1>${escaped(title)}</h1>
${body}
</body>
</html>
`;
}

function loginForm(uid, problem) {
  return document(
    "Log in",
    `${problem ? `<p role="alert">${escaped(problem)}</p>` : ""}
<form method="post" action="/interaction/${escaped(uid)}">
<p><label>User name <input name="login" required autocomplete="off"></label></p>
<p><label>Password <input name="password" type="password" required autocomplete="off"></label></p>
<p><button type="submit">Log in</button></p>
</form>`,
  );
}

function consentForm(uid, params) {
  return document(
    "Allow access",
    `<p>${escaped(params.client_id)} asks for: ${escaped(params.scope)}</p>
<form method="post" action="/interaction/${escaped(uid)}">
<p><button type="submit" name="decision" value="continue">Continue</button>
<button type="submit" name="decision" value="cancel">Cancel</button></p>
</form>`,
  );
}

async function form(request) {
  let text = "";
  for await (const chunk of request) {
    text += chunk;
    if (text.length > FORM_LIMIT) throw new Error("the form is too large");
  }
  return new URLSearchParams(text);
}

/** The grant that the user consents to: all that was asked for. */
async function grant(provider, { grantId, session, params, prompt }) {
  const { accountId } = session;
  const found = grantId && (await provider.Grant.find(grantId));
  const granted = found || new provider.Grant({ accountId, clientId: params.client_id });
  const { missingOIDCScope, missingOIDCClaims } = prompt.details;
  if (missingOIDCScope) granted.addOIDCScope(missingOIDCScope.join(" "));
  if (missingOIDCClaims) granted.addOIDCClaims(missingOIDCClaims);
  return granted.save();
}

/** One request to /interaction/<uid>: shows the form of the step that is due, or takes what was sent. */
async function interact(provider, request, response) {
  const details = await provider.interactionDetails(request, response);
  const isLogin = details.prompt.name === "login";
  const page = (status, html) => {
    response.writeHead(status, { "Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store" });
    response.end(html);
  };
  if (request.method !== "POST") {
    page(200, isLogin ? loginForm(details.uid) : consentForm(details.uid, details.params));
    return;
  }
  const sent = await form(request);
  let result;
  if (isLogin) {
    const accountId = sent.get("login");
    if (!accountId || !sent.get("password")) {
      page(400, loginForm(details.uid, "User name and password are needed."));
      return;
    }
    result = { login: { accountId } };
  } else if (sent.get("decision") === "continue") {
    result = { consent: { grantId: await grant(provider, details) } };
  } else {
    result = { error: "access_denied", error_description: "The user said no." };
  }
  await provider.interactionFinished(request, response, result, { mergeWithLastSubmission: true });
}

async function serve(config) {
  const { port, tls } = config;
  const issuer = `${tls ? "https" : "http"}://127.0.0.1:${port}`;
  const provider = new Provider(issuer, await configuration(config));
  for (const event of ["authorization.error", "grant.error", "server_error"]) {
    provider.on(event, (ctx, error) => log(`${event}: ${ctx.method} ${ctx.path}: ${error.error_detail ?? error.message}`));
  }
  const rest = provider.callback();
  const handle = (request, response) => {
    if (!request.url.startsWith("/interaction/")) {
      rest(request, response);
      return;
    }
    interact(provider, request, response).catch((error) => {
      log(`${request.method} ${request.url}: ${error.stack ?? error}`);
      response.writeHead(400, { "Content-Type": "text/html; charset=utf-8" });
      response.end(document("invalid_request", `<p role="alert">${escaped(error.message)}</p>`));
    });
  };
  const server = tls
    ? https.createServer({ cert: readFileSync(tls.cert), key: readFileSync(tls.key) }, handle)
    : http.createServer(handle);
  await new Promise((resolve, reject) => server.once("error", reject).listen(port, "127.0.0.1", resolve));
  return issuer;
}

const input = values();
const first = await input.next();
if (first.done) throw new Error("the first line of stdin must say what to serve");
answer({ issuer: await serve(first.value) });
for await (const _ of input);
process.exit(0);
