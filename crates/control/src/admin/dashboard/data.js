// What the admin API says: asked for, kept for a while, and turned into rates and percentiles.

/** Seconds between two looks. */
export const EVERY = 2;
/** Looks that are kept: five minutes. */
const KEPT = 150;
/** Rates and percentiles are those of the last looks, so many seconds. */
const WINDOW = 20;

/** Where that is: the address of the page may have a name and a password in it, which must not be in others. */
export const at = (path) => `${location.origin}${path}`;

/** Asks for something. Throws what went wrong, in words. */
export async function get(path) {
  return answer(await fetch(at(path), { headers: { accept: 'application/json' } }));
}

/** Orders something. */
export async function order(method, path, body) {
  const options = { method, headers: { accept: 'application/json' } };
  if (body !== undefined) {
    options.headers['content-type'] = 'application/json';
    options.body = JSON.stringify(body);
  }
  return answer(await fetch(at(path), options));
}

async function answer(response) {
  const text = await response.text();
  let value = null;
  try { value = JSON.parse(text); } catch { /* not JSON: the status says it */ }
  if (!response.ok) {
    const error = new Error(value?.detail || `${response.status} ${response.statusText}`);
    throw Object.assign(error, { status: response.status });
  }
  return value;
}

/** A part of a path. */
export const part = encodeURIComponent;

/** Everything the views look at. */
export const store = {
  /** Paths that the API has. */
  paths: new Set(),
  /** What whoever looks may do: user, operator, admin. */
  level: 'user',
  /** The looks, the oldest first; each with `at` in milliseconds. */
  looks: [],
  pools: [],
};

const levels = ['user', 'operator', 'admin'];

/** Whether whoever looks may do what needs this level. */
export const may = (level) => levels.indexOf(store.level) >= levels.indexOf(level);

/** Whether the API has this path. */
export const has = (path) => store.paths.has(path);

/** What there is to ask. */
export async function learn() {
  const document = await get('/openapi.json');
  store.paths = new Set(Object.keys(document.paths ?? {}));
}

/** Looks once more. */
export async function look() {
  const [traffic, endpoints, status] = await Promise.all([
    get('/v1/traffic'),
    has('/v1/endpoints') ? get('/v1/endpoints') : { pools: [] },
    get('/v1/status'),
  ]);
  const last = store.looks.at(-1);
  // Counters begin anew with the process.
  if (last && last.pid !== status.pid) store.looks = [];
  if (last?.pid !== status.pid && has('/v1/session')) store.level = (await get('/v1/session')).level;
  const one = {
    ...status,
    at: Date.now(),
    uptime: traffic.uptime,
    connections: traffic.connections,
    in_flight: traffic.active,
    bounds: traffic.bounds,
    routes: traffic.routes.map(row),
    endpoints: traffic.endpoints.map((one) => ({ ...row(one), pool: one.pool, url: one.endpoint })),
  };
  one.routesBy = new Map(one.routes.map((route) => [`${route.site}\n${route.route}`, route]));
  one.endpointsBy = new Map(one.endpoints.map((endpoint) => [key(endpoint.site, endpoint.pool, endpoint.url), endpoint]));
  one.total = total(one.routes);
  store.looks.push(one);
  if (store.looks.length > KEPT) store.looks.shift();
  store.pools = endpoints.pools;
  return one;
}

/** A row of the traffic in the words of this file. */
function row(one) {
  return {
    site: one.site, route: one.route, requests: one.requests, classes: one.classes, duration: one.buckets,
    bytes_in: one.request_bytes ?? 0, bytes_out: one.response_bytes ?? 0, sockets: one.websockets ?? 0,
    failures: one.failures ?? 0,
  };
}

/** Which endpoint it is, with the pool's name in the configuration: the addresses of one name are counted together. */
export const key = (site, pool, url) => `${site}\n${pool}\n${url}`;

/** The last look. */
export const now = () => store.looks.at(-1);

/** The look that is `WINDOW` back, or the first. */
function before() {
  const last = now();
  if (!last) return undefined;
  return store.looks.find((one) => last.at - one.at <= WINDOW * 1000 + 500) ?? store.looks[0];
}

/** The numbers of several rows together. */
export function total(rows) {
  const sum = { requests: 0, classes: [0, 0, 0, 0, 0, 0], bytes_in: 0, bytes_out: 0, duration: [], sockets: 0 };
  for (const row of rows) {
    sum.requests += row.requests;
    add(sum.classes, row.classes);
    add(sum.duration, row.duration);
    sum.bytes_in += row.bytes_in;
    sum.bytes_out += row.bytes_out;
    sum.sockets += row.sockets;
  }
  return sum;
}

function add(sums, more) {
  more.forEach((value, at) => { sums[at] = (sums[at] ?? 0) + value; });
}

const minus = (a, b) => a.map((value, at) => value - (b?.[at] ?? 0));
const sum = (values) => values.reduce((all, one) => all + one, 0);

/** What happened between two looks at one thing: rates a second, and percentiles. */
export function between(old, row, seconds) {
  const classes = minus(row.classes, old?.classes);
  // Attempts that failed are errors, with a response or without.
  const failed = (row.failures ?? 0) - (old?.failures ?? 0);
  const requests = row.requests - (old?.requests ?? 0);
  const duration = minus(row.duration, old?.duration);
  const per = (value) => (seconds > 0 ? value / seconds : 0);
  return {
    requests,
    rate: per(requests),
    classes: classes.map(per),
    // 5xx, and requests that no response was possible for.
    errors: requests ? Math.min(1, (classes[5] + classes[0] + failed) / requests) : 0,
    refused: requests ? classes[4] / requests : 0,
    in: per(row.bytes_in - (old?.bytes_in ?? 0)),
    out: per(row.bytes_out - (old?.bytes_out ?? 0)),
    p50: percentile(duration, 0.5),
    p90: percentile(duration, 0.9),
    p99: percentile(duration, 0.99),
  };
}

/** The same over the last seconds, for what `pick` finds in a look. */
export function lately(pick) {
  const [old, last] = [before(), now()];
  if (!last) return undefined;
  const row = pick(last);
  if (!row) return undefined;
  const alone = old === last;
  const earlier = alone ? row : pick(old);
  return between(earlier, row, alone ? 0 : (last.at - old.at) / 1000);
}

/** Seconds that the share `q` of a histogram's durations took at most, by the bounds of its buckets. */
export function percentile(buckets, q) {
  const all = sum(buckets);
  const bounds = now()?.bounds ?? [];
  if (all <= 0) return null;
  let passed = 0;
  for (let at = 0; at < buckets.length; at += 1) {
    const here = buckets[at];
    if (here > 0 && passed + here >= q * all) {
      const low = at === 0 ? 0 : bounds[at - 1];
      const high = bounds[at] ?? low * 2;
      return low + (high - low) * ((q * all - passed) / here);
    }
    passed += here;
  }
  return bounds.at(-1) ?? null;
}

/** A line over time: for each two looks what `pick` finds, and `value` makes a number of that. */
export function series(pick, value) {
  const points = [];
  for (let at = 1; at < store.looks.length; at += 1) {
    const [old, look] = [store.looks[at - 1], store.looks[at]];
    const row = pick(look);
    if (row) points.push({ at: look.at, value: value(between(pick(old) ?? row, row, (look.at - old.at) / 1000), look) });
  }
  return points;
}
