import type { UserId } from "@hubbub/server/protocol";
import { useEffect, useState } from "react";
import type { OutgoingFile } from "../../chat/state/files.ts";
import { useClient } from "../useChat.ts";
import { CALM, useMedia } from "../useMedia.ts";

/** Until a stored image has come from the server, it is shown from the bytes that this page sent: for so long at most. */
const KEPT_MS = 20_000;
const sent = new Map<string, string>();

/** Names an image of a message before and after it is stored. */
export function placeOf(from: UserId, nonce: string | undefined, index: number): string {
  return `${from} ${nonce} ${index}`;
}

/** An address at which an image is shown that this page has just sent; undefined for any other. */
export function sentBytes(place: string): string | undefined {
  return sent.get(place);
}

/** Kinds of images that may move. */
const MAYBE_ANIMATED = /^image\/(?:gif|webp|avif|apng|png)$/;

/**
 * An address at which an image that is not stored yet is shown: null until its bytes are here, "gone" if they are not
 * here any more. Without motion it is the first frame.
 */
export function useBytes({ key, type }: Pick<OutgoingFile, "key" | "type">, place?: string): string | null {
  const chat = useClient();
  const still = useMedia(CALM) && MAYBE_ANIMATED.test(type);
  const [url, setUrl] = useState<string | null>(null);
  useEffect(() => {
    if (place !== undefined && url !== null && url !== "gone") sent.set(place, url);
  }, [place, url]);
  useEffect(() => {
    let made: string | null = null;
    let isOver = false;
    async function load() {
      const bytes = await chat.fileBytes(key);
      const shown = bytes !== null && still ? await firstFrame(bytes) : bytes;
      if (isOver) return;
      made = shown === null ? null : URL.createObjectURL(shown);
      setUrl(made ?? "gone");
    }
    load().catch(() => setUrl("gone"));
    return () => {
      isOver = true;
      if (made !== null) setTimeout(forget, KEPT_MS, made);
    };
  }, [chat, key, still]);
  return url;
}

function forget(url: string): void {
  URL.revokeObjectURL(url);
  for (const [place, other] of sent) if (other === url) sent.delete(place);
}

async function firstFrame(bytes: Blob): Promise<Blob> {
  const frame = await createImageBitmap(bytes);
  const canvas = new OffscreenCanvas(frame.width, frame.height);
  canvas.getContext("2d")?.drawImage(frame, 0, 0);
  frame.close();
  return canvas.convertToBlob();
}
