// The form: what may be started, and why not.

import { call } from "./api.js";
import { byId, make } from "./page.js";

const NO_CHANCE = "the policy does not allow it";
let profiles = [];
let roles = [];

async function load() {
  const [found, access] = await Promise.all([
    call("GET", "/profiles"),
    call("GET", "/roles").catch(() => ({ items: [] })),
  ]);
  profiles = found.items;
  roles = access.items;
  byId("profile").replaceChildren(...profiles.map((one) => option(one.profile, one.profile, one.allowed)));
  byId("database").append(
    ...roles.map((one) => option(`${one.target}/${one.role}`, `${one.role} at ${one.target}`, one.allowed)),
  );
  const asked = new URLSearchParams(location.search).get("profile");
  const first = profiles.find((one) => one.profile === asked) || profiles.find((one) => one.allowed) || profiles[0];
  if (first) byId("profile").value = first.profile;
  for (const id of ["profile", "database"]) byId(id).addEventListener("change", says);
  says();
}

function option(value, words, allowed) {
  return make("option", { value }, allowed ? words : `${words} (not allowed)`);
}

function chosen() {
  return profiles.find((one) => one.profile === byId("profile").value) || null;
}

function chosenRole() {
  return roles.find((one) => `${one.target}/${one.role}` === byId("database").value) || null;
}

function says() {
  const profile = chosen();
  const role = chosenRole();
  byId("profile-says").replaceChildren(profile === null ? "there is none" : verdict(profile, about(profile)));
  byId("database-says").replaceChildren(role === null ? "" : verdict(role, ""));
  byId("command-row").hidden = profile === null || !profile.anyCommand;
}

function about(profile) {
  return [profile.command.join(" "), profile.network ? "with network" : "without network"].join(", ");
}

function verdict(one, more) {
  if (!one.allowed) return `No: ${(one.reasons || []).join("; ") || NO_CHANCE}`;
  const most = one.maxTtl ? `at most ${one.maxTtl}` : "";
  return [most, more].filter(Boolean).join(", ");
}

/** What is asked for, as the API has it. */
function wanted() {
  const room = { columns: 80, rows: 24 };
  const body = { profile: byId("profile").value, reason: byId("reason").value.trim(), ...room };
  const ttl = byId("ttl").value.trim();
  if (ttl !== "") body.ttl = ttl;
  const command = byId("command").value.trim();
  if (command !== "" && !byId("command-row").hidden) body.shell = command;
  const role = chosenRole();
  if (role !== null) body.database = { target: role.target, role: role.role };
  return body;
}

export const choices = { load, wanted };
