import { createContext, useCallback, useContext, useEffect, useRef, useState, type ReactNode } from "react";
import { isCommand, isMac, listenForKeys } from "../keys.ts";
import { Button } from "./Button.tsx";
import css from "./Notices.module.css";

const SHOWN_MS = 6_000;
/** For each character, if the text is long. */
const READ_MS = 80;
const MOST_OFFERS = 3;

/** Something that can be undone for a while. */
type Offer = {
  /** How long, in ms from when it is shown. */
  ms: number;
  undo: () => void;
  /** Called repeatedly while the pointer or the focus is on it: the time starts again. */
  wait: () => void;
};

type Notice = { id: number; text: string; offer?: Offer | undefined };

type Tell = (text: string, offer?: Offer) => void;

const NoticeContext = createContext<Tell>(() => {});

/** Answers a function that shows a text for a while. It replaces the text before, unless that offers an undo. */
export function useNotice(): Tell {
  return useContext(NoticeContext);
}

/**
 * Shows the notices of the components within. Ctrl+Z takes the newest offer, but not in a field with its own undo. A
 * dialog has its own, because nothing outside it can be seen well or read out; the page takes over what a dialog leaves.
 */
export function Notices({ children }: { children: ReactNode }) {
  const outer = useContext(NoticeContext);
  const [notices, setNotices] = useState<readonly Notice[]>([]);
  const here = useRef<readonly Notice[] | null>([]);
  const told = useRef(0);
  const tell = useCallback<Tell>(
    (text, offer) => {
      if (here.current === null) {
        outer(text, offer);
        return;
      }
      const notice = { id: (told.current += 1), text, offer };
      const offers = here.current.filter((one) => one.offer !== undefined);
      here.current = [...offers.slice(offer === undefined ? 0 : 1 - MOST_OFFERS), notice];
      setNotices(here.current);
    },
    [outer],
  );
  const close = useCallback((id: number) => {
    here.current = here.current?.filter((one) => one.id !== id) ?? null;
    setNotices(here.current ?? []);
  }, []);
  useEffect(() => {
    here.current ??= [];
    return () => {
      const left = here.current;
      here.current = null;
      for (const { text, offer } of left ?? []) outer(text, offer);
    };
  }, [outer]);

  useEffect(() => {
    const newest = notices.findLast((one) => one.offer !== undefined);
    if (newest === undefined) return undefined;
    return listenForKeys((event) => {
      if (!isCommand(event, "z") || event.shiftKey || hasText(event.target)) return;
      event.preventDefault();
      close(newest.id);
      newest.offer?.undo();
    });
  }, [notices, close]);

  return (
    <NoticeContext value={tell}>
      {children}
      {/* Each is read out once, not again with the next one. */}
      <div className={css.notices} role="alert" aria-atomic="false" data-part="notices">
        {notices.map((notice) => (
          <Shown key={notice.id} notice={notice} onClose={close} />
        ))}
      </div>
    </NoticeContext>
  );
}

/** A notice for as long as it is mounted. */
export function StandingNotice({ text }: { text: string }) {
  return (
    <div className={css.notices} role="alert">
      <p className={css.notice}>{text}</p>
    </div>
  );
}

function Shown({ notice, onClose }: { notice: Notice; onClose: (id: number) => void }) {
  const { id, text, offer } = notice;
  const [pointed, setPointed] = useState(false);
  const [focused, setFocused] = useState(false);
  const waits = offer !== undefined && (pointed || focused);

  useEffect(() => {
    if (offer === undefined || !waits) {
      const timer = setTimeout(() => onClose(id), offer?.ms ?? shownMs(text));
      return () => clearTimeout(timer);
    }
    offer.wait();
    const timer = setInterval(offer.wait, offer.ms / 4);
    return () => {
      clearInterval(timer);
      offer.wait();
    };
  }, [id, text, offer, waits, onClose]);

  return (
    // oxlint-disable-next-line jsx-a11y/no-noninteractive-element-interactions -- it waits for whoever is at its button
    <p
      className={css.notice}
      onPointerEnter={() => setPointed(true)}
      onPointerLeave={() => setPointed(false)}
      onFocus={() => setFocused(true)}
      onBlur={() => setFocused(false)}
    >
      {text}
      {offer !== undefined && (
        <Button
          look="link"
          title={isMac ? "⌘Z" : "Ctrl+Z"}
          onClick={() => {
            onClose(id);
            offer.undo();
          }}
        >
          Undo
        </Button>
      )}
    </p>
  );
}

function shownMs(text: string): number {
  return Math.max(SHOWN_MS, text.length * READ_MS);
}

function hasText(target: EventTarget | null): boolean {
  const isField = target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement;
  return isField && target.value !== "";
}
