//! Sizes against those that were published.

use std::string::String;

use super::Net;
use ingraft_compile::{CompileOptions, initializers};

/// Values of all constants of the file.
fn parameters(net: Net) -> usize {
    let constants = initializers(&net.onnx(1)).expect("a file we wrote is valid");
    constants.values().map(|constant| constant.elements()).sum()
}

#[test]
fn networks_have_the_parameters_that_were_published() {
    // 640·128 + 3·128² + 128·8 and back, with a bias for each of 9 hidden layers and the output.
    assert_eq!(
        parameters(Net::AnomalyDetection),
        2 * (640 * 128 + 3 * 128 * 128 + 128 * 8) + 8 * 128 + 8 + 640
    );
    // Keras counts 218,544 without the classifier, with four for each of the 2736 channels that are normalized; folded, there
    // is one.
    assert_eq!(parameters(Net::VisualWakeWords), 218_544 - 3 * 2736 + 256 * 2 + 2);
    // torchvision counts 5,288,548, with two for each of the 21,008 channels that are normalized; folded, there is one.
    assert_eq!(parameters(Net::EfficientNetB0), 5_288_548 - 21_008);
}

#[test]
fn small_networks_become_integers() {
    for net in [Net::AnomalyDetection, Net::VisualWakeWords] {
        let compiled = net.quantized(1, &CompileOptions::default()).expect("it compiles");
        assert_eq!(compiled.program.notes.float_nodes, [] as [[String; 3]; 0], "{}", net.name());
    }
}
