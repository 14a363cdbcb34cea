import type { ReactNode } from "react";
import css from "./Fault.module.css";
import { Icon } from "./Icon.tsx";

/** What went wrong, where no field is to blame. It is read out at once. */
export function Fault({ children }: { children: ReactNode }) {
  return (
    <p className={css.fault} role="alert">
      <Icon name="warning" /> {children}
    </p>
  );
}
