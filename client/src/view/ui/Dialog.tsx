import { useEffect, useId, useRef, type ReactNode } from "react";
import { enterOverlay } from "../address.ts";
import { Icon } from "./Icon.tsx";

type Props = {
  title: string;
  className?: string;
  onClose: () => void;
  children: ReactNode;
};

/**
 * A modal <dialog>: the browser keeps the focus in it, closes it on Escape, and gives the focus back; "back"
 * closes it too. It is open for as long as it is rendered. The focus starts at the child marked `data-first`, if there is one.
 */
export function Dialog({ title, className, onClose, children }: Props) {
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
      else document.getElementById("composer")?.focus();
    };
  }, []);
  return (
    <dialog
      ref={dialog}
      className={`dialog ${className ?? ""}`}
      aria-labelledby={titleId}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      // A browser that has been told twice to close it does so without asking.
      onClose={onClose}
      onPointerDown={(event) => {
        if (event.target === dialog.current) onClose();
      }}
    >
      <div className="dialog-body">
        <header className="dialog-head">
          <h2 id={titleId}>{title}</h2>
          <button type="button" className="icon-button" aria-label="Close" onClick={onClose}>
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  );
}
