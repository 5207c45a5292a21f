// Who looks at the page, and what they may do: what the server would refuse is not offered.

import { call } from "./client.js";
import { make } from "./dom.js";

const ROLES = ["viewer", "operator", "admin"];

let me = null;

/** Asks the server, before anything is shown; nothing is kept from somebody while it does not answer. */
export async function meet() {
  me = await call("GET", "v1/me").catch(() => null);
  return me;
}

export const may = (role) => me === null || ROLES.indexOf(me.role) >= ROLES.indexOf(role);

/** Why something is not there. */
export const needs = (what, role) => make("p", { class: "soft" }, `${what} needs the role ${role}; yours is ${me.role}.`);
