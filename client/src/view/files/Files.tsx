import type { Message, MessageFile } from "@hubbub/server/protocol";
import { useState, type ReactNode } from "react";
import { isImage, type OutgoingFile } from "../../chat/state/files.ts";
import type { Outgoing } from "../../chat/state/outgoing.ts";
import { useOverlays } from "../overlays.ts";
import { Button } from "../ui/Button.tsx";
import { classes } from "../ui/classes.ts";
import { Icon } from "../ui/Icon.tsx";
import { useChat, useClient, useMe } from "../useChat.ts";
import css from "./Files.module.css";
import { addressOfFile, Picture, PictureToSend } from "./Picture.tsx";
import { placeOf } from "./useBytes.ts";
import { kindOf, showSize } from "./words.ts";

/** What was sent with a message: its images together, and then its other files. */
export function Files({ message }: { message: Message }) {
  const { open } = useOverlays();
  const { images, others } = partsOf(message.files ?? []);
  return (
    <List
      images={images.map((file, index) => (
        <li key={file.id}>
          <Picture
            file={file}
            place={placeOf(message.from, message.nonce, index)}
            alone={images.length === 1}
            onOpen={() => open({ is: "image", message, id: file.id })}
          />
        </li>
      ))}
      others={others.map((file) => (
        <li key={file.id}>
          <Other file={file} />
        </li>
      ))}
    />
  );
}

/** The same of a message on its way. */
export function FilesToSend({ entry: { nonce, files = [] } }: { entry: Outgoing }) {
  const me = useMe();
  const { images, others } = partsOf(files);
  return (
    <List
      images={images.map((file, index) => (
        <li key={file.key}>
          <PictureToSend file={file} place={placeOf(me.id, nonce, index)} alone={images.length === 1} />
        </li>
      ))}
      others={others.map((file) => (
        <li key={file.key}>
          <span className={css.card}>
            <About file={file} />
          </span>
        </li>
      ))}
    />
  );
}

function partsOf<F extends { width?: number }>(files: readonly F[]) {
  return { images: files.filter(isImage), others: files.filter((file) => !isImage(file)) };
}

function List({ images, others }: { images: ReactNode[]; others: ReactNode[] }) {
  return (
    <div data-part="files" className={css.files}>
      {images.length > 0 && <ul className={classes(css.images, images.length > 1 && css.grid)}>{images}</ul>}
      {others.length > 0 && <ul className={css.others}>{others}</ul>}
    </div>
  );
}

function Other({ file }: { file: MessageFile }) {
  const [broken, setBroken] = useState(false);
  const address = addressOfFile(file);
  const [family] = file.type.split("/");
  const isPlayed = !broken && (family === "video" || family === "audio");
  const media = { src: address, controls: true, preload: "metadata", "aria-label": file.name } as const;
  return (
    <>
      {isPlayed &&
        (family === "video" ? (
          // oxlint-disable-next-line jsx-a11y/media-has-caption -- whoever sent it had none
          <video className={css.video} playsInline onError={() => setBroken(true)} {...media} />
        ) : (
          // oxlint-disable-next-line jsx-a11y/media-has-caption -- whoever sent it had none
          <audio className={css.audio} onError={() => setBroken(true)} {...media} />
        ))}
      <a className={css.card} href={address} download={file.name}>
        <About file={file} />
        <Icon name="download" />
        <span className="hidden">Download</span>
      </a>
    </>
  );
}

function About({ file }: { file: { name: string; type: string; size: number } }) {
  return (
    <>
      <Icon name="file" />
      <span className={css.about}>
        <bdi className={css.name}>{file.name}</bdi>{" "}
        <span className={css.size}>
          {kindOf(file)} · {showSize(file.size)}
        </span>
      </span>
    </>
  );
}

/** How far the upload of a message's files is, and a way to end it. */
export function Uploading({ entry, online, onDone }: UploadingProps) {
  const chat = useClient();
  const { files = [] } = entry;
  const part = useChat(({ uploads }) => partOf(files, uploads));
  const isMoving = useChat(({ uploads }) => files.some(({ key }) => uploads.has(key)));
  const isTaken = useChat(({ uploads }) => files.some(({ key }) => uploads.get(key) === 1));
  const names = files.length === 1 ? (files[0]?.name ?? "") : `${files.length} files`;
  const words = !online
    ? "Waits for the connection"
    : isMoving
      ? isTaken
        ? "Uploading: the server has not answered yet"
        : `Uploading, ${Math.floor(part * 100)} %`
      : "Waits to be uploaded";
  return (
    <span className={css.uploading}>
      <progress max={1} value={part} aria-label={`Uploading ${names}`} />
      <span>{words}</span>
      <Button
        look="link"
        icon="close"
        onClick={() => {
          chat.cancel(entry.nonce);
          onDone?.();
        }}
      >
        Cancel
      </Button>
    </span>
  );
}

type UploadingProps = {
  entry: Outgoing;
  online: boolean;
  /** The element with the focus goes away. */
  onDone?: (() => void) | undefined;
};

/** How much of all the bytes is there, from 0 to 1. */
function partOf(files: readonly OutgoingFile[], uploads: ReadonlyMap<string, number>): number {
  const all = files.reduce((sum, { size }) => sum + size, 0);
  const done = files.reduce(
    (sum, { id, key, size }) => sum + size * (id === undefined ? (uploads.get(key) ?? 0) : 1),
    0,
  );
  return all === 0 ? 0 : done / all;
}
