import type { UploadedFile } from "@hubbub/server/protocol";

/** A file of a message that is not sent yet. Without `id` its bytes are only here. */
export type OutgoingFile = {
  /** Where this browser keeps its bytes. */
  key: string;
  /** As its own program calls it; `type` is only what the browser makes of that. */
  name: string;
  type: string;
  size: number;
  /** Of an image. */
  width?: number;
  height?: number;
  alt?: string;
  /** Its id on the server, once it is uploaded. */
  id?: string;
};

type Shown = Pick<UploadedFile, "name" | "width"> & { alt?: string };

/** Images are shown, all else is offered. */
export function isImage({ width }: Pick<Shown, "width">): boolean {
  return width !== undefined;
}

/** What a message says without a text, in plain words: "Image: a cat", "File: report.pdf and 2 more". */
export function filesInWords([first, ...more]: readonly Shown[] = []): string {
  if (first === undefined) return "";
  const { name, alt = "" } = first;
  const words = isImage(first) ? `Image: ${alt.trim() === "" ? name : alt}` : `File: ${name}`;
  return more.length === 0 ? words : `${words} and ${more.length} more`;
}

/** A draft's files as a text, which is empty for none. */
export function toText(files: readonly OutgoingFile[]): string {
  return files.length === 0 ? "" : JSON.stringify(files);
}

/** The files of a draft, from their text. */
export function filesIn(text: string | undefined): readonly OutgoingFile[] {
  if (text === undefined) return [];
  try {
    return JSON.parse(text) as OutgoingFile[];
  } catch {
    return [];
  }
}

export type UploadsState = {
  /** The files on their way up, by key, with the part of them that is there, from 0 to 1. */
  uploads: ReadonlyMap<string, number>;
};

export const initialUploads: UploadsState = { uploads: new Map() };

/** `part` null: it is on its way no more. */
export type UploadsEvent = { type: "upload"; key: string; part: number | null };

export function applyUploads<S extends UploadsState>(state: S, { key, part }: UploadsEvent): S {
  const uploads = new Map(state.uploads);
  if (part === null) uploads.delete(key);
  else uploads.set(key, part);
  return { ...state, uploads };
}
