import { LIMITS, type FileLimits } from "@hubbub/server/protocol";
import type { ChatClient } from "../../chat/chat.ts";
import { filesSlot, isFilesSlot, type Slot } from "../../chat/drafts.ts";
import { isReadable, type GivenFile } from "../../chat/files.ts";
import { filesIn } from "../../chat/state/files.ts";
import type { ChatState } from "../../chat/state/state.ts";
import { announce } from "../announce.tsx";
import { plainName, showSize } from "./words.ts";

/** The types that the server shows as images. */
const IMAGES = /^image\/(?:jpeg|png|webp|gif|avif)$/;
const FAMILIES: Record<string, string> = {
  "image/*": "images",
  "audio/*": "sound",
  "video/*": "videos",
  "text/*": "texts",
  "application/pdf": "PDF",
};

/** Without an answer of the server, which is asked again when it gets the files. */
const UNKNOWN: FileLimits = {
  fileBytes: Infinity,
  messageFiles: LIMITS.messageFiles,
  types: ["*/*"],
  userBytes: 0,
  used: 0,
};

let before: Promise<unknown> = Promise.resolve();

/** Adds files to a draft, as far as the limits allow. Answers why others were left out. */
export function chooseFiles(chat: ChatClient, slot: Slot, files: readonly File[]): Promise<string[]> {
  const chosen = before.then(() => choose(chat, slot, files));
  before = chosen.catch(() => {});
  return chosen;
}

async function choose(chat: ChatClient, slot: Slot, files: readonly File[]): Promise<string[]> {
  const limits = await chat.fileLimits().catch(() => UNKNOWN);
  const state = chat.snapshot();
  const given: GivenFile[] = [];
  const refused: Refused[] = [];
  const present = filesIn(state.drafts.get(filesSlot(slot))).length;
  let used = limits.used + waitingBytes(state);
  for (const file of files) {
    const { type, size } = file;
    const name = plainName(file.name);
    const why =
      whyNot({ name, type, size }, present + given.length, { ...limits, used }) ??
      ((await isReadable(file)) ? null : `“${name}” cannot be read. Is it a folder, or has it changed?`);
    if (why === null) {
      used += size;
      given.push(await measure(file, name));
    } else refused.push({ name, why });
  }
  await chat.addFiles(slot, given);
  for (const { name } of given) announce(`${name} added`);
  return refusalsOf(refused);
}

type Refused = { name: string; why: string };

/** What holds of several files, but for their names, is said once. */
export function refusalsOf(refused: readonly Refused[]): string[] {
  const kinds = new Map<string, { why: string; others: number }>();
  for (const { name, why } of refused) {
    const kind = why.replace(`“${name}”`, "");
    const known = kinds.get(kind);
    if (known === undefined) kinds.set(kind, { why, others: 0 });
    else known.others += 1;
  }
  return [...kinds.values()].map(({ why, others }) =>
    others === 0
      ? why
      : `${why} The same goes for ${others === 1 ? "another file" : `${others} other files`}.`,
  );
}

/** What is to be uploaded, in bytes. */
function waitingBytes({ drafts, outgoing }: ChatState): number {
  const lists = [...drafts].flatMap(([slot, text]) => (isFilesSlot(slot) ? filesIn(text) : []));
  return [...lists, ...outgoing.flatMap(({ files = [] }) => files)].reduce(
    (sum, { id, size }) => sum + (id === undefined ? size : 0),
    0,
  );
}

type Chosen = Pick<File, "name" | "type" | "size">;

/** Why a file cannot be sent with a message that has so many, as a sentence. */
export function whyNot({ name, type, size }: Chosen, count: number, limits: FileLimits): string | null {
  const { fileBytes, messageFiles, types, userBytes, used } = limits;
  if (size === 0) return `“${name}” is empty.`;
  if (size > fileBytes)
    return `“${name}” is too large: it has ${showSize(size)}, and a file may have ${showSize(fileBytes)}.`;
  // The server looks at the bytes: what the browser does not know may be right.
  if (type !== "" && !types.some((kind) => isOf(type, kind)))
    return `“${name}” cannot be sent here, only ${types.map((kind) => FAMILIES[kind] ?? kind).join(", ")}.`;
  if (count >= messageFiles) return `“${name}” is one too many: a message takes ${messageFiles} files.`;
  // 0 stands for any number.
  if (userBytes > 0 && used + size > userBytes) {
    const free = showSize(Math.max(0, userBytes - used));
    return `There is no space for “${name}”: you have ${free} left of ${showSize(userBytes)}.`;
  }
  return null;
}

function isOf(type: string, kind: string): boolean {
  const [family] = kind.split("/");
  return kind === "*/*" || (kind.endsWith("/*") ? type.startsWith(`${family}/`) : type === kind);
}

/** An image with its size, as it will be shown. */
async function measure(file: File, name: string): Promise<GivenFile> {
  const given = { name, type: file.type, bytes: file };
  if (!IMAGES.test(file.type)) return given;
  const url = URL.createObjectURL(file);
  const image = new Image();
  const isRead = await new Promise<boolean>((resolve) => {
    image.addEventListener("load", () => resolve(true));
    image.addEventListener("error", () => resolve(false));
    image.src = url;
  });
  URL.revokeObjectURL(url);
  return isRead ? { ...given, width: image.naturalWidth, height: image.naturalHeight } : given;
}
