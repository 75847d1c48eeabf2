//! Which frame is handed on next, which is given up, and when a keyframe is wished for. PROTOCOL.md §10.

use super::{Event, Frame, Reassembler, WINDOW};

/// What may wait for [`Reassembler::poll`] in the queue: so many events, and so many bytes of frames.
const QUEUE: (usize, usize) = (256, 16 << 20);

impl Reassembler {
    /// Every frame below `frame` has left the host: what is missing of them is late or lost.
    pub(super) fn pass(&mut self, now_ns: u64, frame: u32) {
        if frame.saturating_sub(self.next) >= WINDOW {
            self.make_room(now_ns);
        }
        if frame.saturating_sub(self.next) >= WINDOW {
            // What is missing has been missing for a whole window; what there is of it is given up in one go.
            self.give_up(frame);
        }
        for number in self.passed.max(self.next)..frame {
            self.frames[(number % WINDOW) as usize].set_overdue(now_ns);
        }
        self.passed = self.passed.max(frame);
    }

    /// Hands on what can be, into the queue: many frames may come in one batch, after a pause of ours.
    fn make_room(&mut self, now_ns: u64) {
        while self.queue.len() < QUEUE.0
            && self.queued_bytes < QUEUE.1
            && let Some(event) = self.step(now_ns)
        {
            if let Event::Frame(frame) = &event {
                self.queued_bytes += frame.data.len();
            }
            self.queue.push_back(event);
        }
    }

    /// Gives up the frames before `until`, at least one.
    fn give_up(&mut self, until: u32) {
        let first = self.next;
        let mut wish = self.wanted;
        for number in first..until.min(first.saturating_add(WINDOW)) {
            let frame = &mut self.frames[(number % WINDOW) as usize];
            if frame.is_whole() {
                self.counters.frames_skipped += 1;
            } else {
                self.counters.frames_lost += 1;
                // Of a frame none of whose packets came nobody knows whether it was the IDR waited for.
                if !self.awaiting_idr || frame.may_be_idr() {
                    wish = Some(number);
                }
            }
            frame.release(&mut self.pool);
        }
        let beyond = (until - first).saturating_sub(WINDOW);
        if beyond > 0 {
            self.counters.frames_lost += u64::from(beyond);
            wish = Some(until - 1);
        }
        self.next = until;
        self.awaiting_idr = true;
        self.wish_untold |= wish != self.wanted;
        self.wanted = wish;
        self.lost = Some(self.lost.take().map_or(first, |lost| lost.start)..until);
    }

    pub(super) fn step(&mut self, now_ns: u64) -> Option<Event> {
        loop {
            if let Some(lost) = self.lost.take() {
                return Some(Event::Lost { first: lost.start, count: lost.end - lost.start });
            }
            if let Some(after) = self.wanted.filter(|_| std::mem::take(&mut self.wish_untold)) {
                return Some(Event::WantKeyframe { after });
            }
            let frame = &self.frames[(self.next % WINDOW) as usize];
            if frame.is_whole() {
                if !self.awaiting_idr || frame.is_idr() {
                    return Some(Event::Frame(self.hand_on()));
                }
                // A frame that nothing can be made of, because one before it is missing.
                self.counters.frames_skipped += 1;
                self.frames[(self.next % WINDOW) as usize].release(&mut self.pool);
                self.next += 1;
                continue;
            }
            let overdue = frame.overdue();
            let expired = overdue.is_some_and(|since| now_ns >= since.saturating_add(self.config.reorder_wait_ns));
            if expired || frame.is_spoilt() {
                self.give_up(self.next + 1);
                continue;
            }
            if (self.awaiting_idr || self.wanted.is_some())
                && let Some(idr) = self.whole_idr()
            {
                // The answer to a wish: what comes before it is of no use any more, and not worth a wish.
                self.give_up(idr);
                self.wish_untold = false;
                continue;
            }
            // A wish is made as soon as a frame is probably lost: the sooner, the shorter the gap. Should it become
            // whole after all, an IDR too many was sent.
            let probably = overdue.is_some_and(|since| now_ns >= since.saturating_add(self.wish_wait_ns(now_ns)));
            if probably && self.may_wish() {
                self.wanted = Some(self.next);
                self.wish_untold = true;
                continue;
            }
            return None;
        }
    }

    /// Whether losing the next frame would be a new reason to want a keyframe.
    pub(super) fn may_wish(&self) -> bool {
        let matters = !self.awaiting_idr || self.frames[(self.next % WINDOW) as usize].may_be_idr();
        matters && self.wanted.is_none_or(|wanted| wanted < self.next)
    }

    pub(super) fn wish_wait_ns(&self, now_ns: u64) -> u64 {
        self.reorder.wait_ns(now_ns).min(self.config.reorder_wait_ns)
    }

    fn whole_idr(&self) -> Option<u32> {
        (self.next..self.next.saturating_add(WINDOW)).find(|number| {
            let frame = &self.frames[(number % WINDOW) as usize];
            frame.is_whole() && frame.is_idr()
        })
    }

    fn hand_on(&mut self) -> Frame {
        let frame = &mut self.frames[(self.next % WINDOW) as usize];
        let mut data = self.spare.pop().unwrap_or_default();
        let (header, arrival) = frame.assemble(&self.pool, &mut data);
        let idr = frame.is_idr();
        frame.release(&mut self.pool);
        let number = self.next;
        self.next += 1;
        self.awaiting_idr = false;
        self.wanted = None;
        self.wish_untold = false;
        self.counters.frames += 1;
        self.counters.frames_recovered += u64::from(arrival.recovered);
        Frame {
            generation: self.generation(),
            number,
            idr,
            header,
            data,
            recovered: arrival.recovered,
            first_packet_ns: arrival.first_ns,
            reassembled_ns: arrival.whole_ns,
        }
    }
}
