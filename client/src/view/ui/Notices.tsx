import { createContext, useCallback, useContext, useEffect, useState, type ReactNode } from "react";
import css from "./Notices.module.css";

const SHOWN_MS = 6_000;

type Tell = (text: string) => void;

const Notice = createContext<Tell>(() => {});

/** Gives what shows a text over the page for a while, in the place of the one before. */
export function useNotice(): Tell {
  return useContext(Notice);
}

/** Shows what those within have to tell. */
export function Notices({ children }: { children: ReactNode }) {
  const [notice, setNotice] = useState<{ text: string } | null>(null);
  const tell = useCallback<Tell>((text) => setNotice({ text }), []);

  useEffect(() => {
    if (notice === null) return undefined;
    const timer = setTimeout(() => setNotice(null), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [notice]);

  return (
    <Notice value={tell}>
      {children}
      <p className={css.notice} role="alert">
        {notice?.text}
      </p>
    </Notice>
  );
}
