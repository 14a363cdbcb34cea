import type { AuditEntry } from "@hubbub/server/protocol";
import { showUntil } from "../time.ts";

/** What a moderator did, or tried to, as a sentence. */
export function wordsOfEntry(entry: AuditEntry, nameOf: (id: string) => string): string {
  const by = entry.by === "" ? "The operator" : nameOf(entry.by);
  return `${by} ${entry.refused === true ? "tried to" : "did"}: ${deedOf(entry, nameOf)}.`;
}

function deedOf({ what, userId, seq, detail = "" }: AuditEntry, nameOf: (id: string) => string): string {
  const whom = userId === undefined ? "somebody" : nameOf(userId);
  const message = seq === undefined ? "a message" : `message ${seq}`;
  const set = fieldsOf(detail);
  switch (what) {
    case "add":
      return `add ${whom}`;
    case "remove":
      return `remove ${whom}`;
    case "ban":
      return detail === "lifted" ? `lift the ban of ${whom}` : `ban ${whom}`;
    case "role":
      return `make ${whom} ${textOf(set["role"])}`;
    case "mute": {
      const until = Number(set["mutedUntil"] ?? 0);
      return until > 0 ? `mute ${whom} until ${showUntil(until)}` : `unmute ${whom}`;
    }
    case "settings": {
      const changed = Object.entries(set).map(([name, value]) => settingOf(name, value));
      return changed.length === 0 ? "change the settings" : changed.join(", ");
    }
    case "delete.others":
      return `delete ${message}${userId === undefined ? "" : ` of ${whom}`}`;
    case "invite":
      return detail === "" ? "change an invite link" : `invite link: ${detail}`;
    case "review":
      return `close the report of ${message}`;
    default:
      return detail === "" ? what : `${what} (${detail})`;
  }
}

function settingOf(name: string, value: unknown): string {
  if (name === "archived") return value === true ? "archive the room" : "open the room again";
  if (name === "slow")
    return Number(value) > 0 ? `set slow mode to ${Number(value)} seconds` : "end slow mode";
  if (name === "topic" && value === "") return "remove the topic";
  if (name === "kind") return value === "invite" ? "let in only invited people" : "let everybody join";
  return `set the ${name} to “${textOf(value)}”`;
}

function fieldsOf(detail: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(detail);
    return typeof value === "object" && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value ?? "");
}
