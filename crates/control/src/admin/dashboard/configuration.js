// What was served, by whose order, and what was different.

import { get, has, may, order } from './data.js';
import { Table, ago, ask, badge, card, el, moment, nothing, put, same, tell, when } from './ui.js';

const TONES = { applied: 'good', refused: 'bad', canary: 'warn', withdrawn: 'warn' };

export class Configuration {
  constructor() {
    this.wrong = el('p.note.bad', { role: 'alert', hidden: true });
    this.table = new Table('Configurations', [
      { name: 'time', title: 'When', show: (row) => same(when(row.time), () => moment(row.time)) },
      { name: 'generation', title: 'No.', number: true, show: (row) => row.generation ?? '–' },
      { name: 'outcome', title: 'Outcome', show: (row) => same(`${row.outcome} ${row.in_force}`, () => el('span', badge(row.outcome, TONES[row.outcome]), row.in_force ? el('b.force', ' in force') : null)) },
      { name: 'cause', title: 'By', show: (row) => (row.cause === row.author ? row.cause : `${row.cause}, ${row.author}`) },
      { name: 'reason', title: 'Why', wide: true, show: (row) => row.reason || '–' },
      { name: 'act', title: '', show: (row) => (may('operator') && has('/v1/config/rollback') ? same(`${row.in_force}`, () => this.back(row)) : '') },
    ], (row) => `${row.time} ${row.generation}`, { stack: true, pick: (row) => this.open(row), tone: (row) => (this.picked === row.generation && row.generation ? 'picked' : '') });
    this.diff = el('div', nothing('Choose one to see what was different.'));
    const reload = may('operator') && has('/v1/reload')
      ? el('button', { type: 'button', onclick: () => this.reload() }, 'Read the files again') : null;
    this.node = el('div.view', this.wrong, el('div.row', reload), card('History', this.table.node), card('What was different', this.diff));
    this.looked = 0;
  }

  async update() {
    if (Date.now() - this.looked >= 5000) await this.look();
  }

  async look() {
    this.looked = Date.now();
    try {
      this.table.update((await get('/v1/config/history')).entries);
      this.wrong.hidden = true;
    } catch (error) {
      put(this.wrong, error.message);
      this.wrong.hidden = false;
    }
  }

  async open(row) {
    this.picked = row.generation;
    this.table.update(this.table.rows);
    if (row.generation === null) {
      this.diff.replaceChildren(el('p.subject', `Refused ${when(row.time)}`), el('pre.text', row.reason || 'No reason was kept.'));
      return;
    }
    if (!may('operator')) {
      this.diff.replaceChildren(nothing('What was different is shown to operators.'));
      return;
    }
    try {
      const { diff } = await get(`/v1/config/history/${row.generation}`);
      this.diff.replaceChildren(el('p.subject', `Generation ${row.generation}, ${ago(row.time)} ago`), diff ? shown(diff) : nothing('Nothing was different.'));
    } catch (error) {
      tell(error.message, 'bad');
    }
  }

  back(row) {
    if (row.in_force || row.generation === null || row.outcome === 'refused') return el('span');
    return el('button.plain', {
      type: 'button', 'aria-label': `Serve generation ${row.generation} again`,
      onclick: async (event) => {
        event.stopPropagation();
        if (await ask(`Serve generation ${row.generation} again?`, 'The files stay as they are; the next reload serves them again.', 'Serve it')) this.give('POST', `/v1/config/rollback?to=${row.generation}`);
      },
    }, 'Serve again');
  }

  async reload() {
    if (await ask('Read the files again?', 'If they cannot be served, what is in force stays.', 'Read them')) this.give('POST', '/v1/reload');
  }

  async give(method, path) {
    try {
      const { generation, changes } = await order(method, path);
      tell(changes.length ? `Generation ${generation}: ${changes.slice(0, 3).join('; ')}` : `Generation ${generation}: nothing is different.`);
    } catch (error) {
      tell(error.message, 'bad');
    }
    this.look();
  }
}

/** A unified diff with a colour for each kind of line. */
function shown(diff) {
  const kind = (line) => {
    if (line.startsWith('+++') || line.startsWith('---')) return 'file';
    if (line.startsWith('@@')) return 'place';
    return { '+': 'new', '-': 'old' }[line[0]] ?? 'same';
  };
  return el('pre.diff', { tabindex: '0' }, diff.replace(/\n$/, '').split('\n').map((line) => el(`span.${kind(line)}`, `${line}\n`)));
}
