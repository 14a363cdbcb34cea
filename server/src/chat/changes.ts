import { ChatError } from "../errors.ts";
import {
  isBlank,
  LIMITS,
  type EditMessage,
  type Message,
  type React,
  type Target,
  type UserId,
} from "../protocol.ts";

/** What somebody asks to be done to a stored message. */
export type MessageChange =
  | ({ do: "edit" } & EditMessage)
  | ({ do: "delete" } & Target)
  | ({ do: "react" } & React)
  | ({ do: "pin"; on: boolean } & Target);

/** Whom a text mentions. */
export type Mentioned = Pick<Message, "mentions" | "mentionsRoom">;

/**
 * How a message changes: answers the new message, or null if nothing is to change. `mentioned` is what a new text
 * mentions. Pure; a repeat, or another order of several people's changes, ends the same. Nothing brings a deleted message
 * back. Throws `not_found`, `conflict` and `forbidden`.
 */
export function asChanged(
  message: Message,
  by: UserId,
  asked: MessageChange,
  now: number,
  mentioned: Mentioned,
): Message | null {
  demandMeant(message, asked);
  switch (asked.do) {
    case "edit":
      return asEdited(message, by, asked, now, mentioned);
    case "delete":
      return asDeleted(message, now);
    case "react":
      return asReacted(message, by, asked);
    case "pin":
      return asPinned(message, asked.on, now);
    default:
      return asked satisfies never;
  }
}

/** Throws `not_found` if another message than this one was meant. */
export function demandMeant(message: Message, { hash }: Target): void {
  if (hash !== undefined && hash !== message.hash)
    throw new ChatError("not_found", "This message is not stored any more.");
}

/**
 * The author replaces the text, which mentions these. Throws `forbidden` to others, `conflict` if it was edited or
 * deleted since `rev`, or never had it, and `invalid` for a message without text or files.
 */
function asEdited(
  message: Message,
  by: UserId,
  asked: EditMessage,
  now: number,
  mentioned: Mentioned,
): Message | null {
  demandAuthor(message, by);
  demandNotDeleted(message);
  if (message.files === undefined && isBlank(asked.message))
    throw new ChatError("invalid", "A message needs text.");
  // A later one than the message's is of a log that was lost, or of nobody's making.
  const isKnown = asked.rev >= (message.editRev ?? 0) && asked.rev <= (message.rev ?? 0);
  if (!isKnown) throw conflict("It was edited meanwhile.", message);
  if (message.message === asked.message) return null;
  const { mentions: _, mentionsRoom: __, ...rest } = message;
  return { ...rest, message: asked.message, edited: now, ...mentioned };
}

/** Its place, its author and its nonce, which makes retries harmless, stay. */
function asDeleted(message: Message, now: number): Message | null {
  if (message.deleted !== undefined) return null;
  const { roomId, seq, date, hash, from, nonce, replyTo, thread } = message;
  return {
    roomId,
    seq,
    date,
    hash,
    from,
    message: "",
    ...(nonce !== undefined && { nonce }),
    ...(replyTo !== undefined && { replyTo }),
    ...(thread !== undefined && { thread }),
    deleted: now,
  };
}

/** Adds or removes a user's reaction. Throws `conflict` if it is deleted, `forbidden` if it has too many reactions. */
function asReacted(message: Message, by: UserId, { emoji, on }: React): Message | null {
  demandNotDeleted(message);
  const before = message.reactions ?? [];
  const has = before.some(([kind, users]) => kind === emoji && users.includes(by));
  if (has === on) return null;
  if (!on) {
    const rest = before.flatMap(([kind, users]): typeof before => {
      const others = kind === emoji ? users.filter((id) => id !== by) : users;
      return others.length === 0 ? [] : [[kind, others]];
    });
    return withReactions(message, rest);
  }
  const all = before.reduce((total, [, users]) => total + users.length, 0);
  if (all >= LIMITS.reactions)
    throw new ChatError("forbidden", "This message has all the reactions it can have.");
  if (before.some(([kind]) => kind === emoji))
    return withReactions(
      message,
      before.map(([kind, users]) => [kind, kind === emoji ? [...users, by] : users]),
    );
  if (before.length >= LIMITS.reactionKinds)
    throw new ChatError("forbidden", `A message has ${LIMITS.reactionKinds} kinds of reactions at most.`);
  return withReactions(message, [...before, [emoji, [by]]]);
}

/** Pins it to the room, or unpins it. Throws `conflict` if it is deleted. */
function asPinned(message: Message, on: boolean, now: number): Message | null {
  demandNotDeleted(message);
  if ((message.pinned !== undefined) === on) return null;
  const { pinned: _, ...rest } = message;
  return on ? { ...rest, pinned: now } : rest;
}

function withReactions(message: Message, reactions: NonNullable<Message["reactions"]>): Message {
  const { reactions: _, ...rest } = message;
  return reactions.length === 0 ? rest : { ...rest, reactions };
}

function demandAuthor(message: Message, by: UserId): void {
  if (message.from !== by) throw new ChatError("forbidden", "It is somebody else's message.");
}

function demandNotDeleted(message: Message): void {
  if (message.deleted !== undefined) throw conflict("It has been deleted.", message);
}

function conflict(words: string, message: Message): ChatError {
  return new ChatError("conflict", words, undefined, message);
}
