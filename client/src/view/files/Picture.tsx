import type { MessageFile } from "@hubbub/server/protocol";
import { useState, type CSSProperties, type MouseEvent, type ReactNode } from "react";
import type { OutgoingFile } from "../../chat/state/files.ts";
import { Button, IconButton } from "../ui/Button.tsx";
import { classes } from "../ui/classes.ts";
import { useChat } from "../useChat.ts";
import { CALM, useMedia } from "../useMedia.ts";
import css from "./Picture.module.css";
import { sentBytes, useBytes } from "./useBytes.ts";

/** The largest box of an image that stands alone, and the smallest one that can be hit, in px. */
const MOST = { width: 400, height: 300 };
const LEAST = 44;

export function addressOfFile({ id }: { id: string }): string {
  return `/api/files/${id}`;
}

/** What an image shows, in words. */
export function altOf({ alt = "", name }: { alt?: string; name: string }): string {
  return alt.trim() === "" ? name : alt;
}

/** Whether an image plays, which one can change: with reduced motion none begins by itself. */
export function usePlaying({ animated }: Pick<MessageFile, "animated">) {
  const calm = useMedia(CALM);
  const [chosen, setChosen] = useState<boolean | null>(null);
  const plays = animated === true && (chosen ?? !calm);
  return { plays, toggle: () => setChosen(!plays) };
}

type Props = {
  file: MessageFile;
  /** Its name before and after it is stored. */
  place: string;
  /** Whether it is the only one of its message. Else it is one of a grid. */
  alone: boolean;
  onOpen: () => void;
};

/** An image of a message, in a box that has its size from the beginning. A click opens it. */
export function Picture({ file, place, alone, onOpen }: Props) {
  const { plays, toggle } = usePlaying(file);
  const address = addressOfFile(file);
  const [before] = useState(() => sentBytes(place));
  const [isHere, setIsHere] = useState(false);

  function open(event: MouseEvent) {
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    onOpen();
  }

  return (
    <Box file={file} alone={alone}>
      {before !== undefined && !isHere && <img src={before} alt="" />}
      <Loaded file={file} src={plays ? address : `${address}/thumbnail`} onHere={() => setIsHere(true)}>
        {(image) => (
          <a className={css.open} href={address} onClick={open}>
            {image}
          </a>
        )}
      </Loaded>
      {file.animated === true && (
        <span className={css.play}>
          <IconButton
            icon={plays ? "pause" : "play"}
            label={plays ? "Stop the animation" : "Play the animation"}
            onClick={toggle}
          />
        </span>
      )}
    </Box>
  );
}

/** The same while it is on its way: from the bytes that are here. */
export function PictureToSend({ file, place, alone }: PictureToSendProps) {
  const url = useBytes(file, place);
  const src = url !== "gone" ? url : file.id === undefined ? null : `/api/files/${file.id}/thumbnail`;
  return (
    <Box file={file} alone={alone}>
      {src !== null && <img src={src} alt={altOf(file)} decoding="async" />}
    </Box>
  );
}

type PictureToSendProps = Omit<Props, "file" | "onOpen"> & { file: OutgoingFile };

type BoxProps = { file: { width?: number; height?: number }; alone: boolean; children: ReactNode };

function Box({ file: { width = 1, height = 1 }, alone, children }: BoxProps) {
  const scale = Math.min(1, MOST.width / width, MOST.height / height);
  const style: CSSProperties | undefined = alone
    ? {
        width: Math.max(LEAST, Math.round(width * scale)),
        aspectRatio: `${width} / ${height}`,
        maxHeight: MOST.height,
      }
    : undefined;
  return (
    <span className={classes(css.box, !alone && css.tile)} style={style} data-part="picture">
      {children}
    </span>
  );
}

type LoadedProps = {
  file: MessageFile;
  src: string;
  lazy?: boolean;
  /** It is loaded, or cannot be. */
  onHere?: () => void;
  /** Draws the image. */
  children: (image: ReactNode) => ReactNode;
};

/** An image of the server's; its name, and a way to try again, where it cannot be loaded. */
export function Loaded({ file, src, lazy = true, onHere, children }: LoadedProps) {
  const [failed, setFailed] = useState<string | null>(null);
  const [attempt, setAttempt] = useState(0);
  const online = useChat((state) => state.connection === "online");
  const again = () => {
    setFailed(null);
    setAttempt((count) => count + 1);
  };
  const [wasOnline, setWasOnline] = useState(online);
  if (online !== wasOnline) {
    setWasOnline(online);
    if (online) setFailed(null);
  }
  if (failed === src)
    return (
      <span className={css.missing}>
        <bdi>{altOf(file)}</bdi>
        <Button look="link" icon="retry" onClick={again}>
          Try again
        </Button>
      </span>
    );
  return children(
    <img
      key={attempt}
      src={src}
      alt={altOf(file)}
      width={file.width}
      height={file.height}
      loading={lazy ? "lazy" : "eager"}
      decoding="async"
      draggable={false}
      onLoad={({ currentTarget }) => {
        currentTarget.dataset["here"] = "";
        onHere?.();
      }}
      onError={() => {
        setFailed(src);
        onHere?.();
      }}
    />,
  );
}
