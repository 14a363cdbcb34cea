import type { AuditEntry } from "@hubbub/server/protocol";
import { showUntil } from "../time.ts";

/** What a moderator did, or tried to, as a sentence. */
export function wordsOfEntry(entry: AuditEntry, nameOf: (id: string) => string): string {
  const by = entry.by === "" ? "The operator" : nameOf(entry.by);
  const deeds = deedsOf(entry, nameOf);
  if (entry.unfinished === true) return `${by} began to ${deeds.join(", ")}; perhaps that was not done.`;
  return `${by} ${entry.refused === true ? `tried to ${deeds.join(", ")}` : deeds.map(done).join(", ")}.`;
}

/** The verbs of all deeds, as what was done. */
const DONE: Readonly<Record<string, string>> = {
  add: "added",
  remove: "removed",
  lift: "lifted",
  ban: "banned",
  make: "made",
  mute: "muted",
  unmute: "unmuted",
  change: "changed",
  archive: "archived",
  open: "opened",
  end: "ended",
  delete: "deleted",
  revoke: "revoked",
  close: "closed",
  disable: "disabled",
  enable: "enabled",
  choose: "chose",
  set: "set",
};

function done(deed: string): string {
  return deed.replace(/^\w+/, (verb) => DONE[verb] ?? verb);
}

/** What it was, each beginning with a verb. */
function deedsOf(
  { what, by, userId, seq, detail = "" }: AuditEntry,
  nameOf: (id: string) => string,
): string[] {
  const whom = userId === undefined ? "somebody" : nameOf(userId);
  const message = seq === undefined ? "a message" : `message ${seq}`;
  const set = fieldsOf(detail);
  switch (what) {
    case "add":
      return [`add ${whom}`];
    case "remove":
      return [`remove ${whom}`];
    case "ban":
      return [detail === "lifted" ? `lift the ban of ${whom}` : `ban ${whom}`];
    case "role":
      return [`make ${whom} ${asText(set["role"])}`];
    case "mute": {
      const until = Number(set["mutedUntil"] ?? 0);
      return [until > 0 ? `mute ${whom} until ${showUntil(until)}` : `unmute ${whom}`];
    }
    case "settings": {
      const changed = Object.entries(set).map(([name, value]) => settingOf(name, value));
      return changed.length === 0 ? ["change the settings"] : changed;
    }
    case "delete.others":
      return [`delete ${message}${userId === undefined ? "" : ` of ${whom}`}`];
    case "invite":
      return [`${detail === "revoked" ? "revoke" : "make"} an invite link`];
    case "account":
      return accountDeeds(
        set,
        detail,
        userId === undefined || userId === by ? "their account" : `the account of ${whom}`,
        whom,
      );
    case "server settings": {
      const changed = detail.split(", ").map((name) => SERVER_SETTINGS[name] ?? name);
      return [`change ${changed.join(" and ")}`];
    }
    case "demo":
      return ["remove the demo data"];
    case "review":
      return [`close the report of ${message}`];
    default:
      return [detail === "" ? `change ${what}` : `change ${what} (${detail})`];
  }
}

const SERVER_SETTINGS: Readonly<Record<string, string>> = {
  signup: "who can sign up",
  words: "the filtered words",
};

/** What was done about an account. */
function accountDeeds(set: Record<string, unknown>, detail: string, account: string, whom: string): string[] {
  if (detail.startsWith("deleted")) return [`delete ${account}`];
  if (detail === "a link for a new password")
    return [`make a link with which ${whom} chooses a new password`];
  if (detail === "a new password by a link") return ["choose a new password by an admin's link"];
  if (detail === "sessions ended") return [`end the sessions of ${whom}`];
  const { role, disabled } = set;
  const deeds = [
    ...(typeof disabled === "boolean" ? [`${disabled ? "disable" : "enable"} ${account}`] : []),
    ...(role === undefined
      ? []
      : [`make ${whom} ${role === "user" ? "an ordinary user" : `${asText(role)} of the server`}`]),
  ];
  return deeds.length > 0 ? deeds : [`change ${account}${detail === "" ? "" : ` (${detail})`}`];
}

function settingOf(name: string, value: unknown): string {
  if (name === "archived") return value === true ? "archive the room" : "open the room again";
  if (name === "slow")
    return Number(value) > 0 ? `set slow mode to ${Number(value)} seconds` : "end slow mode";
  if (name === "topic" && value === "") return "remove the topic";
  if (name === "kind") return value === "invite" ? "let in only invited people" : "let everybody join";
  return `set the ${name} to “${asText(value)}”`;
}

function fieldsOf(detail: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(detail);
    return typeof value === "object" && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}

function asText(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value ?? "");
}
