// What k6 has no repeatable source of.

// Random is mulberry32: small, and the same for the same seed everywhere.
export class Random {
  constructor(seed) {
    this.state = seed >>> 0;
    for (let i = 0; i < 4; i++) this.next(); // neighbouring seeds drift apart
  }

  next() {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  below(n) {
    return Math.floor(this.next() * n);
  }

  of(list) {
    return list && list.length ? list[this.below(list.length)] : undefined;
  }
}

// uuidv4 is not seeded: a key that comes again would be a repetition.
export function uuidv4() {
  return 'xxxxxxxx-xxxx-4xxx-yxxx-xxxxxxxxxxxx'.replace(/[xy]/g, (c) => {
    const r = Math.floor(Math.random() * 16);
    return (c === 'x' ? r : (r & 0x3) | 0x8).toString(16);
  });
}
