//! Gradients of the whole chain, for every kind of term and every readout.

use ingraft_train::Readout;

use crate::everything::Everything;
use crate::oracle::check;
use crate::setup::HEAD;
use crate::tiny::{CLASSIFIER, DEPTH, MIX, POINT};

#[test]
fn through_every_layer_to_a_head() {
    check(&Everything, HEAD, &[POINT, DEPTH, MIX], 1);
}

#[test]
fn of_a_clip_of_three_patches() {
    check(&Everything, HEAD, &[POINT, DEPTH, MIX], 3);
}

#[test]
fn to_a_head_in_the_middle_with_width_kept() {
    check(&Everything, Readout::Head { site: MIX, pool: 1, classes: 2 }, &[POINT, DEPTH, MIX], 2);
}

#[test]
fn to_the_logits_of_the_model() {
    check(&Everything, Readout::Logits, &[POINT, DEPTH, MIX, CLASSIFIER], 2);
}

#[test]
fn of_the_last_sites_only() {
    check(&Everything, HEAD, &[MIX], 2);
    check(&Everything, HEAD, &[DEPTH], 1);
}
