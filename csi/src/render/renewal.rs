//! The files of a volume that has some already: what cannot be rendered keeps no other part of them.

use connectors_api::attributes::VolumeAttributes;
use secrecy::SecretString;

use super::render;
use crate::error::Error;
use crate::inputs::{Gathered, Inputs};
use crate::write::Files;

/// What is to be written, what it was made of, and what is in the way of a part of it.
pub struct Renewed {
    pub files: Files,
    pub inputs: Inputs,
    pub stale: Option<Error>,
}

/// All files anew, as far as that can be. `last` is what the volume's present files were made of.
pub fn renew(
    attributes: &VolumeAttributes,
    token: &SecretString,
    gathered: Gathered,
    last: Option<&Inputs>,
) -> Result<Renewed, Error> {
    let Gathered { inputs, stale } = gathered;
    let render = |inputs: &Inputs| render(attributes, token, inputs);
    match (render(&inputs), last) {
        (Ok(files), _) => Ok(Renewed { files, inputs, stale }),
        (Err(error), Some(last)) => {
            let (files, inputs) = without_what_fails(inputs, last, render)?;
            Ok(Renewed { files, inputs, stale: stale.or(Some(error)) })
        }
        (Err(error), None) => Err(error),
    }
}

/// Which connector is in the way is found by trying: one after the other takes the place of what was known of it, with its
/// class, and keeps it if the files can be rendered so. There are 16 at most.
fn without_what_fails(
    new: Inputs,
    last: &Inputs,
    render: impl Fn(&Inputs) -> Result<Files, Error>,
) -> Result<(Files, Inputs), Error> {
    let mut kept = new.clone();
    for connector in &mut kept.connectors {
        if let Some(known) = last.connector(&connector.reference) {
            *connector = known.clone();
        }
    }
    let Ok(mut files) = render(&kept) else { return Ok((render(last)?, last.clone())) };
    for (place, connector) in new.connectors.into_iter().enumerate() {
        let known = std::mem::replace(&mut kept.connectors[place], connector);
        match render(&kept) {
            Ok(rendered) => files = rendered,
            Err(_) => kept.connectors[place] = known,
        }
    }
    Ok((files, kept))
}
