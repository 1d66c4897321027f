"""The accuracy model: from trials to the predicted metric of any structure."""
