import type { ReactNode } from "react";
import css from "./Fault.module.css";
import { Icon } from "./Icon.tsx";

/** An error that belongs to no field. It is read out at once. */
export function Fault({ children }: { children: ReactNode }) {
  return (
    <p className={css.fault} role="alert">
      <Icon name="warning" /> {children}
    </p>
  );
}
