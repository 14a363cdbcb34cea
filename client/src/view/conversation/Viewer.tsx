import type { Message } from "@hubbub/server/protocol";
import { useEffect, useMemo, useRef, useState, type PointerEvent } from "react";
import { isImage } from "../../chat/state/files.ts";
import { announce } from "../announce.tsx";
import { listenForKeys } from "../keys.ts";
import { addressOfFile, altOf, Loaded, usePlaying } from "../files/Picture.tsx";
import { showSize } from "../files/words.ts";
import { useOverlays } from "../overlays.ts";
import { IconButton, IconLink } from "../ui/Button.tsx";
import { classes } from "../ui/classes.ts";
import { Dialog, Gone } from "../ui/Dialog.tsx";
import { useKnown } from "../useKnown.ts";
import css from "./Viewer.module.css";

/** A finger that moves as far sideways, in px, turns to the next image. */
const SWIPE = 48;

/** The images of a message over the whole page, one at a time. It closes if the message is deleted. */
export function Viewer({ message: opened, id }: { message: Message; id: string }) {
  const { close } = useOverlays();
  const [message = opened] = useKnown(useMemo(() => [opened], [opened]));
  const images = (message.files ?? []).filter(isImage);
  const [shown, setShown] = useState(id);
  const [zoomed, setZoomed] = useState(false);
  const finger = useRef<{ x: number; y: number } | null>(null);
  const at = images.findIndex((image) => image.id === shown);
  const file = images[at];
  const { plays, toggle } = usePlaying(file ?? {});

  function turnTo(to: number) {
    const image = images[to];
    if (image === undefined || to === at) return;
    setZoomed(false);
    setShown(image.id);
    announce(`Image ${to + 1} of ${images.length}: ${altOf(image)}`);
  }

  const turn = useRef(turnTo);
  useEffect(() => {
    turn.current = turnTo;
  });
  useEffect(() => {
    function onKeyDown(event: KeyboardEvent) {
      if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
      const ways: Record<string, number> = {
        ArrowLeft: at - 1,
        ArrowRight: at + 1,
        Home: 0,
        End: images.length - 1,
      };
      const to = ways[event.key];
      if (to === undefined) return;
      event.preventDefault();
      turn.current(to);
    }
    return listenForKeys(onKeyDown);
  }, [at, images.length]);

  function lift({ clientX, clientY }: PointerEvent) {
    const from = finger.current;
    finger.current = null;
    // In a page that is magnified the finger moves the page.
    if (from === null || zoomed || (visualViewport?.scale ?? 1) > 1.01) return;
    const [right, down] = [clientX - from.x, clientY - from.y];
    if (Math.abs(right) > SWIPE && Math.abs(right) > Math.abs(down)) turnTo(right < 0 ? at + 1 : at - 1);
  }

  if (file === undefined) return <Gone />;
  const address = addressOfFile(file);
  const still = file.animated === true && !plays;
  return (
    <Dialog
      title={images.length === 1 ? "Image" : `Image ${at + 1} of ${images.length}`}
      look="full"
      onClose={close}
    >
      <div
        data-part="stage"
        className={classes(css.stage, zoomed && css.zoomed)}
        onPointerDown={({ clientX, clientY, pointerType }) => {
          if (pointerType === "touch") finger.current = { x: clientX, y: clientY };
        }}
        onPointerUp={lift}
        onPointerCancel={() => (finger.current = null)}
      >
        <Loaded key={file.id} file={file} src={still ? `${address}/thumbnail` : address} lazy={false}>
          {(image) => (
            <button
              type="button"
              data-first
              className={css.zoom}
              aria-pressed={zoomed}
              title={zoomed ? "Fit into the window" : "Show in full size"}
              onClick={() => setZoomed(!zoomed)}
            >
              {image}
            </button>
          )}
        </Loaded>
      </div>
      <footer className={css.foot}>
        <p className={css.words}>
          {altOf(file) !== file.name && <span dir="auto">{file.alt}</span>}
          <span className={css.name}>
            <bdi>{file.name}</bdi> · {showSize(file.size)}
          </span>
        </p>
        {file.animated === true && (
          <IconButton
            icon={plays ? "pause" : "play"}
            label={plays ? "Stop the animation" : "Play the animation"}
            onClick={toggle}
          />
        )}
        {images.length > 1 && (
          <>
            <IconButton
              icon="back"
              label="Previous image"
              aria-disabled={at === 0}
              onClick={() => turnTo(at - 1)}
            />
            <IconButton
              icon="forth"
              label="Next image"
              aria-disabled={at === images.length - 1}
              onClick={() => turnTo(at + 1)}
            />
          </>
        )}
        <IconLink icon="download" label="Download" title="Download" href={address} download={file.name} />
      </footer>
    </Dialog>
  );
}
