import { useEffect, useId, useRef, type ReactNode } from "react";
import { flushSync } from "react-dom";
import { enterOverlay } from "../address.ts";
import { Announcer } from "../announce.tsx";
import { useOverlays, type Question as Asked } from "../overlays.ts";
import { goOn } from "../regions.ts";
import { Button, IconButton } from "./Button.tsx";
import { classes } from "./classes.ts";
import css from "./Dialog.module.css";
import { Notices } from "./Notices.tsx";

type Props = {
  title: string;
  look?: "tall" | "wide" | "upper" | "drawer" | "full";
  onClose: () => void;
  children: ReactNode;
};

/**
 * A modal <dialog>: the browser keeps the focus in it, closes it on Escape, and gives the focus back; "back" closes it
 * too. It is open while it is rendered. The focus starts at the child marked `data-first`, if there is one.
 */
export function Dialog({ title, look, onClose, children }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const titleId = useId();
  const close = useRef(onClose);
  useEffect(() => {
    close.current = onClose;
  });
  useEffect(() => enterOverlay(() => close.current()), []);
  useEffect(() => {
    const element = dialog.current;
    const before = document.activeElement;
    if (element && !element.open) element.showModal();
    element?.querySelector<HTMLElement>("[data-first]")?.focus();
    return () => {
      element?.close();
      if (before instanceof HTMLElement && before.isConnected && before !== document.body) before.focus();
      else goOn();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      className={classes(css.dialog, look && css[look])}
      aria-labelledby={titleId}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      // A browser closes it without asking when the user tries twice.
      onClose={onClose}
      onPointerDown={(event) => {
        if (event.target === dialog.current && !isWithin(dialog.current, event)) onClose();
      }}
    >
      <div className={css.body}>
        <header className={css.head}>
          <h2 id={titleId}>{title}</h2>
          <IconButton icon="close" label="Close" onClick={onClose} />
        </header>
        <Notices>{children}</Notices>
      </div>
      <Announcer />
    </dialog>
  );
}

/** Whether a press is within an element's box: on its border or scrollbar, which, like its backdrop, are the element. */
function isWithin(element: Element, { clientX, clientY }: { clientX: number; clientY: number }): boolean {
  const { left, right, top, bottom } = element.getBoundingClientRect();
  return clientX >= left && clientX <= right && clientY >= top && clientY <= bottom;
}

/** In the place of an overlay whose subject is gone: closes it, because an open one keeps the keys to itself. */
export function Gone() {
  const { close } = useOverlays();
  useEffect(close, [close]);
  return null;
}

/** Closes a dialog, and then acts: what moves the focus does it after the dialog has given it back. */
export function closeAndAct(close: () => void, act: () => void): void {
  flushSync(close);
  act();
}

/** The buttons at the end of a dialog. */
export function DialogActions({ children }: { children: ReactNode }) {
  return <div className={css.actions}>{children}</div>;
}

type QuestionProps = Asked & { answer: (yes: boolean) => void; onClose: () => void };

export function Question({ title, text, yes, no, answer, onClose }: QuestionProps) {
  return (
    <Dialog title={title} onClose={onClose}>
      <p>{text}</p>
      <DialogActions>
        <Button onClick={onClose}>{no}</Button>
        <Button
          look="danger"
          onClick={() => {
            answer(true);
            // Whoever has asked goes on after this, and may move the focus.
            flushSync(onClose);
          }}
        >
          {yes}
        </Button>
      </DialogActions>
    </Dialog>
  );
}
