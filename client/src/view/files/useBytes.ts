import { useEffect, useState } from "react";
import type { OutgoingFile } from "../../chat/state/files.ts";
import { useClient } from "../useChat.ts";
import { CALM, useMedia } from "../useMedia.ts";

/** Kinds of images that may move. */
const MAYBE_ANIMATED = /^image\/(?:gif|webp|avif|apng|png)$/;

/**
 * An address at which an image that is not stored yet is shown: null until its bytes are here, "gone" if they are not
 * here any more. Without motion it is the first frame.
 */
export function useBytes({ key, type }: Pick<OutgoingFile, "key" | "type">): string | null {
  const chat = useClient();
  const still = useMedia(CALM) && MAYBE_ANIMATED.test(type);
  const [url, setUrl] = useState<string | null>(null);
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
      if (made !== null) URL.revokeObjectURL(made);
    };
  }, [chat, key, still]);
  return url;
}

async function firstFrame(bytes: Blob): Promise<Blob> {
  const frame = await createImageBitmap(bytes);
  const canvas = new OffscreenCanvas(frame.width, frame.height);
  canvas.getContext("2d")?.drawImage(frame, 0, 0);
  frame.close();
  return canvas.convertToBlob();
}
