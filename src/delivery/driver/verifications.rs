//! Handshakes under way: each is sent out, and what came of it noted.

use super::Running;
use super::effects;
use crate::delivery::engine::Asked;
use crate::domain::time::UnixMillis;

impl Running {
    /// Asks the receivers whose turn it is.
    pub(crate) fn begin_handshakes(&mut self) {
        while let Some(ask) = self.session.engine.take_ask() {
            let verifier = self.session.verifier.clone();
            self.send_out(Box::pin(effects::ask(verifier, ask)));
        }
    }

    pub(crate) fn take_reply(&mut self, asked: &Asked) {
        if let Some(tried) = self.session.engine.take_reply(asked, UnixMillis::now()) {
            self.spawn(effects::note_verification(self.session.store.clone(), tried));
        }
    }
}
