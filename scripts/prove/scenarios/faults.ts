import type { Crowd } from "../crowd.ts";
import type { Person } from "../person.ts";
import type { Replica, Rig } from "../rig.ts";

/** The people with a connection to this replica, according to its leases. */
export async function connectionsOf(rig: Rig, crowd: Crowd, replica: Replica): Promise<Person[]> {
  const leases = await rig.admin.zrange("{online_users}:leases", "0", "-1");
  const here = new Set(
    leases.flatMap((lease) => {
      const [id = "", serverId] = lease.split("|");
      return serverId === replica.serverId() ? [crowd.nameOf(id)] : [];
    }),
  );
  return crowd.people.filter((one) => here.has(one.name) && one.connected);
}

/** The sum of a figure of /metrics over all replicas. */
export async function sumOf(rig: Rig, metric: string): Promise<number> {
  const figures = await everyReplica(rig, (replica) => replica.metric(metric));
  return figures.reduce((sum, figure) => sum + figure, 0);
}

export function everyReplica<T>(rig: Rig, task: (replica: Replica) => Promise<T>): Promise<T[]> {
  return Promise.all(rig.replicas.map(task));
}
