import { useState } from "react";

/**
 * The fields of a form. What its user has typed or chosen stays, whatever arrives meanwhile, until `settle` is told that
 * it was sent: a field that was edited again since stays edited. All other fields show `present`, and are not in `edited`.
 */
export function useEdited<T extends object>(present: T) {
  const [edited, setEdited] = useState<Partial<T>>({});
  const fields: T = { ...present, ...edited };
  const edit = (given: Partial<T>) => setEdited((before) => ({ ...before, ...given }));
  function settle(sent: Partial<T>) {
    const isSent = (field: string, value: unknown) => sent[field as keyof T] === value;
    setEdited((now) => {
      const left = Object.entries(now).filter(([field, value]) => !isSent(field, value));
      return Object.fromEntries(left) as Partial<T>;
    });
  }
  return { fields, edited, edit, settle };
}
