//! Handshakes under way: each is sent out, and what came of it noted.

use super::Running;
use super::effects;
use crate::delivery::engine::VerificationResult;
use crate::domain::time::UnixMillis;

impl Running {
    /// Asks the receivers whose turn it is.
    pub(crate) fn begin_handshakes(&mut self) {
        while let Some(ask) = self.session.engine.poll_verification() {
            let verifier = self.session.verifier.clone();
            self.send_out(Box::pin(effects::ask(verifier, ask)));
        }
    }

    pub(crate) fn take_reply(&mut self, asked: &VerificationResult) {
        if let Some(tried) = self.session.engine.handle_verification(asked, UnixMillis::now()) {
            self.spawn(effects::note_verification(self.session.store.clone(), tried));
        }
    }
}
