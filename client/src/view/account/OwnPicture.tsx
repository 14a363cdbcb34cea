import { useRef } from "react";
import { account } from "../../chat/account.ts";
import { Button } from "../ui/Button.tsx";
import { Fault } from "../ui/Fault.tsx";
import { useNotice } from "../ui/Notices.tsx";
import { useCalls } from "../useCalls.ts";
import { useClient, useMe } from "../useChat.ts";
import css from "./OwnPicture.module.css";

/** Pixels of a side: the server shows half of it. */
const SIDE = 512;

/** Chooses, or removes, the picture by which others see this user. */
export function OwnPicture() {
  const chat = useClient();
  const me = useMe();
  const tell = useNotice();
  const { busy, fault, run } = useCalls();
  const input = useRef<HTMLInputElement>(null);
  const button = useRef<HTMLSpanElement>(null);

  function choose(file: File | undefined) {
    if (file === undefined) return;
    run(async () => {
      chat.showMe(await account(chat.call()).setPicture(await squareOf(file)));
      tell("Others see your new picture now.");
    });
  }

  function remove() {
    run(async () => {
      chat.showMe(await account(chat.call()).removePicture());
      tell("You have no picture any more.");
      button.current?.querySelector("button")?.focus();
    });
  }

  return (
    <>
      <input
        ref={input}
        type="file"
        accept="image/jpeg,image/png,image/webp,image/gif,image/avif"
        hidden
        onChange={({ target }) => {
          choose(target.files?.[0]);
          target.value = "";
        }}
      />
      <span ref={button} className={css.ways}>
        <Button look="link" icon="edit" disabled={busy} onClick={() => input.current?.click()}>
          {me.avatar === undefined ? "Choose a picture" : "Change picture"}
        </Button>
        {me.avatar !== undefined && (
          <Button look="link" icon="bin" disabled={busy} onClick={remove}>
            Remove picture
          </Button>
        )}
      </span>
      {fault !== null && <Fault>{fault}</Fault>}
    </>
  );
}

/** The middle of an image, small enough for a slow line; the file itself where this browser cannot read it. */
async function squareOf(file: File): Promise<Blob> {
  try {
    const image = await createImageBitmap(file);
    const side = Math.min(image.width, image.height);
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = Math.min(SIDE, side);
    const [left, top] = [(image.width - side) / 2, (image.height - side) / 2];
    canvas.getContext("2d")?.drawImage(image, left, top, side, side, 0, 0, canvas.width, canvas.height);
    image.close();
    const made = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, "image/webp", 0.9));
    return made ?? file;
  } catch {
    return file;
  }
}
