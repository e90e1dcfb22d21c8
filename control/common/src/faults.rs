//! Collects faults, so that all of them are reported at once.

use crate::exit::Failure;

/// The faults found so far.
#[derive(Debug, Default)]
pub struct Faults(Vec<Failure>);

impl Faults {
    /// The value of a success. A failure is kept, and there is no value.
    pub fn take<T>(&mut self, result: Result<T, Failure>) -> Option<T> {
        result.map_err(|failure| self.add(failure)).ok()
    }

    /// Keeps a failure, unless the same one is already kept.
    pub fn add(&mut self, failure: Failure) {
        if let Failure::Several(failures) = failure {
            failures.into_iter().for_each(|failure| self.add(failure));
        } else if !self.0.iter().any(|known| known.to_string() == failure.to_string()) {
            self.0.push(failure);
        }
    }

    /// An error if any failure is kept.
    ///
    /// # Errors
    /// One failure that is kept is the error itself. Several are one [`Failure::Several`].
    pub fn check(self) -> Result<(), Failure> {
        let mut failures = self.0;
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => Err(Failure::Several(failures)),
        }
    }

    /// The result: `made`, or an error if any failure is kept.
    ///
    /// # Errors
    /// It fails as [`Faults::check`] does. The error is [`Failure::Internal`] when nothing was made and no failure is
    /// kept.
    pub fn finish<T>(self, made: Option<T>) -> Result<T, Failure> {
        self.check()?;
        made.ok_or_else(|| Failure::Internal("something is wrong, and nobody said what".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_said_each_once() {
        let wrong = |text: &str| Err::<(), _>(Failure::Usage(text.to_owned()));
        let mut faults = Faults::default();
        assert_eq!(faults.take(Ok(5)), Some(5));
        for text in ["a", "b", "a"] {
            assert_eq!(faults.take(wrong(text)), None);
        }
        let mut more = Faults::default();
        more.take(wrong("c"));
        more.add(faults.check().unwrap_err());
        let failure = more.finish(None::<()>).unwrap_err();
        assert_eq!((failure.to_string().as_str(), failure.code()), ("c\na\nb", 2));
        assert!(Faults::default().finish(Some(1)).is_ok());
        assert_eq!(Faults::default().finish(None::<()>).unwrap_err().code(), 1);
    }
}
